"""Thousands of broken and hostile checkpoints through `puma prune`, counted by class.

python benchmarks/prune/mutations.py --work-dir runs/mutations --write mutations.md
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from measured import machine, publish

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.pruning.mutations import CLASSES
from tests.pruning.mutations.trial import (
    EQUAL,
    FAILED,
    LIMIT,
    REFUSED,
    Cut,
    Outcome,
    cut_by_command,
    cut_here,
    run_trial,
    write_parent,
)
from tests.pruning.mutations.watch import Watch

GROWTH = 32e6  # bytes of resident memory, after the first class has loaded everything


def main() -> int:
    """Run everything; return 1 if any trial failed or took too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--each", type=int, default=160, help="trials of each class")
    parser.add_argument("--keys", type=int, default=15, help="of each class, with the key check")
    parser.add_argument("--commands", type=int, default=5, help="of each class, as a command")
    parser.add_argument("--write", type=Path, help="where to write the table")
    asked = parser.parse_args()
    room = asked.work_dir / "room"
    shutil.rmtree(asked.work_dir, ignore_errors=True)
    base = write_parent(asked.work_dir / "base")
    watch = Watch()
    run_trial(base, room, "code and pickles", 0, watch, partial(cut_here, verify="keys"))
    before = _resident()
    ways: list[tuple[str, int, Cut, Watch | None]] = [
        ("in the process, unproven", asked.each, cut_here, watch),
        ("in the process, keys checked", asked.keys, partial(cut_here, verify="keys"), watch),
        ("as a command", asked.commands, cut_by_command, None),
    ]
    lines = [
        "| class | trials | refused | cut, equal | failed | slowest |",
        "|---|---|---|---|---|---|",
    ]
    bad = 0
    for title, count, cut, ear in ways:
        everything: list[Outcome] = []
        for name in sorted(CLASSES):
            found = list(_trials(base, room, name, count, ear, cut))
            everything += found
            if cut is cut_here:
                lines.append(_row(name, found))
        lines.append(_row(f"**all, {title}**", everything))
        bad += sum(outcome.kind == FAILED or outcome.seconds > LIMIT for outcome in everything)
    growth = _resident() - before
    lines += [
        "",
        f"- {'NO' if bad else 'yes'}: each refused with a sentence within {LIMIT:.0f} s, or cut "
        "with tensors equal to the source's; nothing left, nothing outside touched, no code run.",
        f"- {'yes' if growth <= GROWTH else 'NO'}: memory grew by {growth / 1e6:.0f} MB (at most "
        f"{GROWTH / 1e6:.0f}) over all trials in the process.",
    ]
    command = f"`python benchmarks/prune/mutations.py --each {asked.each} --keys {asked.keys} "
    command += f"--commands {asked.commands}`"
    shutil.rmtree(asked.work_dir, ignore_errors=True)
    publish(
        [f"Command: {command}. Machine: {machine(asked.work_dir.parent)}.", "", *lines], asked.write
    )
    return int(bool(bad) or growth > GROWTH)


def _trials(
    base: Path, room: Path, name: str, count: int, watch: Watch | None, cut: Cut
) -> Iterator[Outcome]:
    for seed in range(count):
        outcome = run_trial(base, room, name, seed, watch, cut)
        if outcome.kind == FAILED or outcome.seconds > LIMIT:
            said = f"{name} {seed}: {outcome.kind} in {outcome.seconds:.1f} s: {outcome.why}"
            print(said, file=sys.stderr, flush=True)
        yield outcome


def _row(name: str, found: Sequence[Outcome]) -> str:
    kinds = Counter(outcome.kind for outcome in found)
    counts = " | ".join(str(kinds[kind]) for kind in (REFUSED, EQUAL, FAILED))
    slowest = max((outcome.seconds for outcome in found), default=0.0)
    return f"| {name} | {len(found)} | {counts} | {slowest:.2f} s |"


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
