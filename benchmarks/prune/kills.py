"""Runs of `puma prune` killed at random moments of their work: what is left, and what comes next.

python benchmarks/prune/kills.py --work-dir runs/prune-kills --write kills.md
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from pathlib import Path
from random import Random

from measured import machine, publish, tensor_bytes

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.pruning.kills import (
    ABSENT,
    BEFORE,
    DEPTH,
    KEEP,
    NEW,
    OLD,
    cut,
    random_kill,
    write_model,
)


def main() -> int:
    """Run everything; return 1 if a kill cost anything, or too few hit the writing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--writing", type=int, default=30, help="kills that must hit the writing")
    parser.add_argument("--size", type=float, default=600, help="of the checkpoint, in MB")
    parser.add_argument("--write", type=Path, help="where to write the table")
    asked = parser.parse_args()
    shutil.rmtree(asked.work_dir, ignore_errors=True)
    model = write_model(asked.work_dir / "model", int(asked.size * 1e6))
    room = asked.work_dir / "room"
    cut(model, room / "before", BEFORE)
    seconds = max(cut(model, room / name) for name in ("after", "again"))
    shutil.rmtree(room / "again")
    size = tensor_bytes(model)
    states: Counter[str] = Counter()
    drafting = number = 0
    bad: list[str] = []
    while sum(states.values()) < asked.kills:
        number += 1
        found, wrong = random_kill(model, room, Random(number), seconds)
        # A run that had ended by itself was not killed.
        states[found.target] += found.alive
        drafting += found.drafting
        bad += [f"kill {number}: {what}" for what in wrong]
        what = "writing" if found.drafting else "working" if found.alive else "too late"
        said = f"kill {number}: {what}, {found.target} {wrong or ''}"
        print(said, file=sys.stderr, flush=True)
    enough = drafting >= asked.writing
    lines = [
        f"Command: `python benchmarks/prune/kills.py --kills {asked.kills} --size {asked.size:g}`. "
        f"Machine: {machine(asked.work_dir)}. A checkpoint of {size / 1e6:.0f} MB, {DEPTH} layers "
        f"cut to {KEEP}, in {seconds:.2f} s undisturbed; SIGKILL at an even random moment of that "
        "time, counted for half of the runs from when the temporary folder appears; half of the "
        "runs replace an older result.",
        "",
        "| killed | while the temporary folder was there | target absent | older result whole | "
        "new result whole | anything else |",
        "|---|---|---|---|---|---|",
        f"| {sum(states.values())} | {drafting} | {states[ABSENT]} | {states[OLD]} | {states[NEW]} "
        f"| {sum(states.values()) - states[ABSENT] - states[OLD] - states[NEW]} |",
        "",
        f"- {'NO' if bad else 'yes'}: the target absent or whole, never both versions lost, and "
        "each next run cleaned up and made the same result.",
        f"- {'yes' if enough else 'NO'}: at least {asked.writing} kills hit the writing.",
        *(f"- {what}" for what in bad),
    ]
    publish(lines, asked.write)
    shutil.rmtree(asked.work_dir, ignore_errors=True)
    return int(bool(bad) or not enough)


if __name__ == "__main__":
    sys.exit(main())
