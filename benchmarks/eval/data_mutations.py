"""Thousands of broken and hostile data sets, scored and checked, counted by class.

python benchmarks/eval/data_mutations.py --work-dir runs/data-mutations --write broken-data.md
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from puma_cli.evaluation.encode import Encoder
from puma_cli.models.opening import load
from tests.evaluation.hashed import Hashed
from tests.evaluation.mutations import CLASSES
from tests.evaluation.mutations.base import write_base
from tests.evaluation.mutations.trial import (
    EQUAL,
    FAILED,
    LIMIT,
    REFUSED,
    Outcome,
    run_trial,
    unmutated,
)

GROWTH = 96e6  # bytes of resident memory, after the first trial of each class


def main() -> int:
    """Run everything; return 1 if any trial failed or took too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--each", type=int, default=150, help="trials of each class")
    parser.add_argument("--model", type=int, default=2, help="of each class, with puma-mini")
    parser.add_argument("--classes", default="", help="only those whose names have this in them")
    parser.add_argument("--write", type=Path, help="where to write the table")
    asked = parser.parse_args()
    shutil.rmtree(asked.work_dir, ignore_errors=True)
    os.environ["PUMA_CACHE"] = str(asked.work_dir / "cache")
    base = write_base(asked.work_dir / "base")
    lines = [
        "| class | trials | refused | equal | failed | scored without what is bad | slowest |",
        "|---|---|---|---|---|---|---|",
    ]
    everything: list[Outcome] = []
    stand_in = Hashed()
    known = unmutated(base, stand_in)
    names = sorted(name for name in CLASSES if asked.classes in name)
    for name in names:
        run_trial(base, asked.work_dir / "room", name, 0, known, stand_in)
    before = _resident()
    for name in names:
        found = list(_trials(base, name, range(asked.each), known, stand_in))
        everything += found
        lines.append(_row(name, found))
        print(lines[-1], flush=True)
    lines.append(_row("**all**", everything))
    growth = _resident() - before
    if asked.model:
        embedder = load("puma-mini", "cpu", "float32")
        known = unmutated(base, embedder)
        seeds = range(asked.each, asked.each + asked.model)
        found = [o for name in names for o in _trials(base, name, seeds, known, embedder)]
        everything += found
        lines.append(_row("**further ones, encoded by puma-mini**", found))
    bad = sum(outcome.kind == FAILED or outcome.seconds > LIMIT for outcome in everything)
    lines += [
        "",
        f"- {'NO' if bad else 'yes'}: each refused with a sentence that names the file, or scored "
        f"as the whole data are, within {LIMIT:.0f} s.",
        f"- {'yes' if growth <= GROWTH else 'NO'}: memory grew by {growth / 1e6:.0f} MB (at most "
        f"{GROWTH / 1e6:.0f}).",
    ]
    command = (
        f"`python benchmarks/eval/data_mutations.py --each {asked.each} --model {asked.model}`"
    )
    text = "\n".join([f"Command: {command}, on {platform.machine()}.", "", *lines]) + "\n"
    print(text)
    if asked.write:
        asked.write.write_text(text, encoding="utf-8")
    shutil.rmtree(asked.work_dir, ignore_errors=True)
    return int(bool(bad) or growth > GROWTH)


def _trials(
    base: Path, name: str, seeds: Sequence[int], known: Mapping[str, str], embedder: Encoder
) -> Iterator[Outcome]:
    for seed in seeds:
        outcome = run_trial(base, base.parent / "room", name, seed, known, embedder)
        if outcome.kind == FAILED or outcome.seconds > LIMIT:
            said = f"{name} {seed}: {outcome.kind} in {outcome.seconds:.1f} s: {outcome.why}"
            print(said, file=sys.stderr, flush=True)
        yield outcome


def _row(name: str, found: Sequence[Outcome]) -> str:
    kinds = Counter(outcome.kind for outcome in found)
    counts = " | ".join(str(kinds[kind]) for kind in (REFUSED, EQUAL, FAILED))
    skipped = sum(outcome.skipped for outcome in found)
    slowest = max((outcome.seconds for outcome in found), default=0.0)
    return f"| {name} | {len(found)} | {counts} | {skipped} | {slowest:.1f} s |"


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
