"""One trial: break a copy of a checkpoint, cut it, and judge what came of it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random

from safetensors import deserialize

from puma_cli import PruneSettings, prune
from puma_cli.errors import PumaError
from tests.pruning.mutations import CLASSES, OUTSIDE
from tests.pruning.mutations.editing import CONFIG, INDEX, SIDE_FILES
from tests.pruning.mutations.watch import Watch
from tests.zoo import write_checkpoint

DEPTH, KEEP = 4, 2
DESCRIPTIONS = (CONFIG, INDEX, *SIDE_FILES)
REFUSED, EQUAL, FAILED = "refused", "equal", "failed"
# What no refusal may need; a trial that hangs fails instead of hanging the rest.
LIMIT = 5.0
_HANGS = 60
_LAYER = re.compile(r"model\.layers\.(\d+)\.")

Cut = Callable[[Path, Path], None]
Tensor = tuple[str, list[int], bytes]


@dataclass(frozen=True)
class Outcome:
    """What came of one trial.

    Args:
        kind: `refused` with a `PumaError`, `equal` tensors written, or `failed`.
        why: what was wrong, for `failed`; what was said, for `refused`.
        seconds: how long the cut took.
    """

    kind: str
    why: str
    seconds: float


def write_parent(folder: Path) -> Path:
    """Write the checkpoint that is broken in all trials, with its side files."""
    write_checkpoint("qwen2_vl", folder, layers=DEPTH, shards=3)
    files = {
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": [2, 3], "temperature": 0.7},
        "tokenizer_config.json": {"model_max_length": 10**30, "extra": {"list": [1, "a", None]}},
        "embedder.json": {
            "template": "{{ messages }}<e>",
            "embed_token": "<e>",
            "dimension": 32,
            "min_pixels": 64,
            "max_pixels": 4096,
        },
        "modules.json": [{"idx": 0, "path": ""}, {"idx": 1, "path": "1_Pooling"}],
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    (folder / "LICENSE").write_text("free")
    return folder


def write_outside(room: Path) -> None:
    """Write what lies beside the checkpoint and must be neither read nor changed."""
    outside = room / OUTSIDE
    (outside / "1_Pooling").mkdir(parents=True)
    for name in (*DESCRIPTIONS, "secret.txt", "1_Pooling/config.json"):
        (outside / name).write_text('{"secret": 1}')
    (outside / "model.safetensors").write_bytes(bytes(100))


def cut_here(parent: Path, target: Path, verify: str = "none") -> None:
    """Cut in this process."""
    prune(PruneSettings(model=str(parent), output_dir=target, keep=KEEP, verify=verify))


def cut_by_command(parent: Path, target: Path) -> None:
    """Cut as a user does, by a process of its own."""
    command = [sys.executable, "-m", "puma_cli", "prune", str(parent), "--keep", str(KEEP)]
    command += ["--output-dir", str(target), "--verify", "none", "--quiet"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_HANGS)
    said = done.stderr.decode("utf-8", "replace")
    if "Traceback" in said or done.returncode not in (0, 1, 2):
        raise RuntimeError(f"exit {done.returncode}: {said}")
    if done.returncode:
        if not said.strip():
            raise RuntimeError(f"exit {done.returncode} without a word")
        raise PumaError(said)


def run_trial(
    base: Path, room: Path, name: str, seed: int, watch: Watch | None, cut: Cut = cut_here
) -> Outcome:
    """Break a copy of `base` in the folder `room` by a seeded mutation, cut and judge it.

    Args:
        watch: what hears of every file opened here; None where `cut` runs another process.
    """
    parent, target = room / "parent", room / "results" / "cut"
    shutil.rmtree(room, ignore_errors=True)
    shutil.copytree(base, parent)
    target.parent.mkdir()
    write_outside(room)
    CLASSES[name](parent, Random(f"{name} {seed}"))
    before = _listing(room / OUTSIDE)
    faults: list[str] = []
    start = time.perf_counter()
    try:
        with (
            _limited(),
            watch.over(parent, target.parent) if watch else nullcontext(faults) as faults,
        ):
            cut(parent, target)
        kind, why = EQUAL, ""
    except PumaError as error:
        kind, why = REFUSED, str(error)
    except Exception:
        kind, why = FAILED, traceback.format_exc()
    seconds = time.perf_counter() - start
    complaints = [why] if kind == FAILED else [_difference(parent, target)] if kind == EQUAL else []
    left = [path.name for path in target.parent.iterdir()]
    if left != (["cut"] if kind == EQUAL else []):
        complaints.append(f"there is left: {left}")
    if _listing(room / OUTSIDE) != before:
        complaints.append("something outside was changed")
    complaints = [complaint for complaint in (*complaints, *faults) if complaint]
    return Outcome(FAILED if complaints else kind, "\n".join(complaints) or why, seconds)


def _difference(parent: Path, target: Path) -> str:
    """Return how a cut's tensors differ from the parent's, as the reference reader reads them."""
    try:
        source, found = _read(parent), _read(target)
    except Exception:
        return f"the reference cannot read it: {traceback.format_exc(limit=1)}"
    expected: dict[str, Tensor] = {}
    for name, tensor in source.items():
        layer = _LAYER.match(name)
        if layer is None or int(layer[1]) < KEEP:
            expected[name] = tensor
    for name in expected:
        if name not in found and not name.startswith("lm_head."):
            return f"the cut lacks `{name}`"
    for name, tensor in found.items():
        if expected.get(name) != tensor:
            return f"`{name}` of the cut differs"
    return ""


def _read(folder: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors as the format's own library reads them."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.exists():
        files = {whole.name}
    else:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return {
        name: (value["dtype"], value["shape"], bytes(value["data"]))
        for file in files
        for name, value in deserialize((folder / file).read_bytes())
    }


def _listing(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"it took more than {_HANGS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
