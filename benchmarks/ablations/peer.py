"""The baseline of question j: the same cut, trained with sentence-transformers' own losses."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from ablations.grid import NOBODY, Run, overrides, recipe_path
from ablations.processes import run, run_puma, shown
from ablations.workplace import Workplace

SCRIPT = Path(__file__).with_name("sentence_transformers_student.py")


def train_peer(asked: Run, cut: str, student: Path, place: Workplace) -> dict[str, Any]:
    """Export a cut, train it in a process of its own, and return what that took.

    A training that was stopped begins again: it has no state.
    """
    exported = place.root / "exported" / Path(cut).name
    with place.once(exported) as missing:
        if missing:
            words = ["export", cut, "--format", "sentence-transformers", "--no-verify"]
            run_puma([*words, "--output-dir", exported], place.log)
            without_torchvision(exported)
    draft = student.with_name(f".{student.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    command: list[Any] = [sys.executable, SCRIPT, "--model", exported]
    if asked.teacher != NOBODY:
        command += ["--teacher", place.model(asked.teacher)]
    command += ["--data", place.data(asked.data), "--config", recipe_path(asked.recipe)]
    for assignment in overrides(asked):
        command += ["--set", assignment]
    command += ["--seed", str(asked.seed), "--device", place.device]
    ended = run([*command, "--output-dir", draft], place.log)
    found = json.loads((draft / "took.json").read_text(encoding="utf-8"))
    shutil.rmtree(student, ignore_errors=True)
    draft.rename(student)
    named = ["python", *command[1:], "--output-dir", student]
    return {"command": shown(named), "peak_memory": ended.memory, "taught": asked.teacher != NOBODY,
            **found}  # fmt: skip


def without_torchvision(folder: Path) -> None:
    """Name a processor equal in effect to Qwen2-VL's own, which asks for torchvision's videos."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    name = {"processor_class": "PaddleOCRVLProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(name), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["extra_special_tokens"] = {"image_token": "<|image_pad|>"}
    path.write_text(json.dumps(content), encoding="utf-8")
