"""Killing a cut at a chosen moment, and judging what it left and what the next run makes of it."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

DEPTH, BEFORE, KEEP = 8, 2, 4
ABSENT, OLD, NEW = "absent", "the replaced result", "the new result"
_WAIT = 120.0  # seconds, for a process that cannot even start
# The clock starts where the work does: what is imported is there already.
_WORKER = """
import sys
from pathlib import Path
import puma_cli
model, target, keep, overwrite = sys.argv[1:]
settings = puma_cli.PruneSettings(model=model, output_dir=Path(target), keep=int(keep),
                                  overwrite=overwrite == "True", verify="none")
prune = puma_cli.prune
print("go", flush=True)
prune(settings)
"""


@dataclass(frozen=True)
class Kill:
    """What one killed run left.

    Args:
        alive: the run had not ended by itself.
        drafting: the temporary folder was there.
        target: `absent`, `the replaced result` or `the new result`; another text says what is
            wrong with it.
        left: names beside the target.
    """

    alive: bool
    drafting: bool
    target: str
    left: tuple[str, ...]


def write_model(folder: Path, size: int) -> Path:
    """Write a checkpoint of about `size` random bytes in three shards."""
    folder.mkdir(parents=True)
    rows = max(1, size // (DEPTH + 2) // 2 // 1024)
    names = ["model.embed_tokens.weight", "model.norm.weight"]
    names += [f"model.layers.{i}.mlp.down_proj.weight" for i in range(DEPTH)]
    config = {"model_type": "llama", "architectures": ["LlamaModel"], "num_hidden_layers": DEPTH}
    config |= {"hidden_size": 1024, "torch_dtype": "bfloat16", "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    weight_map: dict[str, str] = {}
    for number in range(3):
        file, own = f"model-0000{number + 1}-of-00003.safetensors", names[number::3]
        entry = {"dtype": "BF16", "shape": [rows, 1024]}
        place = rows * 2048
        header = {
            name: {**entry, "data_offsets": [i * place, (i + 1) * place]}
            for i, name in enumerate(own)
        }
        raw = json.dumps(header).encode()
        with (folder / file).open("wb") as opened:
            opened.write(struct.pack("<Q", len(raw)) + raw)
            for _ in own:
                opened.write(os.urandom(place))
        weight_map |= dict.fromkeys(own, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def cut(model: Path, target: Path, keep: int = KEEP, overwrite: bool = False) -> float:
    """Cut undisturbed in another process; return the seconds of its work.

    Raises:
        RuntimeError: it failed.
    """
    process = _start(model, target, keep, overwrite)
    start = time.perf_counter()
    _, talk = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit {process.returncode}: {talk}")
    return time.perf_counter() - start


def kill(
    model: Path,
    target: Path,
    delay: float,
    *,
    from_draft: bool,
    overwrite: bool,
    wholes: dict[str, Path],
) -> Kill:
    """Kill a run `delay` seconds after its work began, and say what it left.

    Args:
        target: absent, or with `overwrite` a result that is to be replaced.
        from_draft: count from when its temporary folder appears.
        wholes: what `target` may hold, by what that is called.
    """
    process = _start(model, target, KEEP, overwrite)
    deadline = time.perf_counter() + _WAIT
    while from_draft and process.poll() is None and not _drafts(target):
        if time.perf_counter() > deadline:
            break
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found = next((name for name, whole in wholes.items() if same(target, whole)), "half a result")
    left = tuple(sorted(path.name for path in target.parent.iterdir() if path != target))
    alive = process.returncode == -signal.SIGKILL
    return Kill(alive, bool(_drafts(target)), found if target.exists() else ABSENT, left)


def random_kill(model: Path, room: Path, random: Random, seconds: float) -> tuple[Kill, list[str]]:
    """Kill one run at a random moment, run it again, and list all that is not as it should be.

    Args:
        room: holds `before` and `after`, whole results with `BEFORE` and `KEEP` layers.
        seconds: how long the work of an undisturbed run takes.
    """
    wholes = {OLD: room / "before", NEW: room / "after"}
    target = room / "out" / "cut"
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir()
    overwrite = random.random() < 0.5
    if overwrite:
        shutil.copytree(wholes[OLD], target)
    from_draft = random.random() < 0.5
    delay = random.uniform(0, seconds)
    found = kill(model, target, delay, from_draft=from_draft, overwrite=overwrite, wholes=wholes)
    wrong = []
    if found.target not in (ABSENT, OLD, NEW):
        wrong.append(found.target)
    if overwrite and found.target == ABSENT and not any(".old-" in name for name in found.left):
        wrong.append("both versions are lost")
    cut(model, target, overwrite=overwrite or target.exists())
    if not same(target, wholes[NEW]):
        wrong.append("the next run made another result")
    if [path.name for path in target.parent.iterdir()] != ["cut"]:
        wrong.append("the next run did not clean up")
    return found, wrong


def same(folder: Path, other: Path) -> bool:
    """Tell whether two results have the same files, weights and config byte by byte."""
    if not folder.is_dir():
        return False
    names, others = ({path.name for path in place.iterdir()} for place in (folder, other))
    content = [name for name in names if "safetensors" in name or name == "config.json"]
    return names == others and not any(
        not filecmp.cmp(folder / name, other / name, shallow=False) for name in content
    )


def _drafts(target: Path) -> list[Path]:
    return [
        path
        for path in target.parent.glob(f".{target.name}.partial-*")
        if not path.name.endswith(".lock")
    ]


def _start(model: Path, target: Path, keep: int, overwrite: bool) -> subprocess.Popen[str]:
    """Start a run; return once its work begins."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(model), str(target), str(keep), str(overwrite)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "go\n":
        raise RuntimeError(process.communicate()[1])
    return process
