"""The baseline: the same ranges of bytes, copied by nothing but system calls in four threads.

    python benchmarks/prune/raw_copy.py plan MODEL LAYERS RANGES
    python benchmarks/prune/raw_copy.py copy RANGES OUT

The first asks puma which bytes a cut keeps; the second copies them and prints the seconds, from the
first file made to the last one on the disk (fsync). It reads no header and writes none, checks
nothing, and imports nothing of puma.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 4
CHUNK = 64 << 20


def plan(model: Path, layers: int, ranges: Path) -> None:
    """Write the ranges that a cut of `model` to its first layers, head kept, copies."""
    from puma_cli.pruning.planning.plan import make_plan
    from puma_cli.pruning.writing.output_files import output_files

    files = output_files(make_plan(model, range(layers), head="keep").moves)
    found = [
        (str(piece.source), piece.start, file.name, piece.place, piece.size)
        for file in files
        for piece in file.ranges(Path(file.name))
    ]
    ranges.write_text(json.dumps(found), encoding="utf-8")


def copy(ranges: Path, out: Path) -> float:
    """Copy the ranges into files in the new folder `out`; return the seconds."""
    asked = json.loads(ranges.read_text(encoding="utf-8"))
    began = time.perf_counter()
    out.mkdir()
    sources = {name: os.open(name, os.O_RDONLY) for name in {piece[0] for piece in asked}}
    targets = {
        name: os.open(out / name, os.O_WRONLY | os.O_CREAT, 0o666)
        for name in {piece[2] for piece in asked}
    }

    def run(source: int, start: int, target: int, place: int, size: int) -> None:
        while size:
            count = os.copy_file_range(source, target, size, start, place)
            if not count:
                raise OSError(f"nothing copied at {start}")
            start, place, size = start + count, place + count, size - count

    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [
            pool.submit(run, sources[a], start + d, targets[b], place + d, min(CHUNK, size - d))
            for a, start, b, place, size in asked
            for d in range(0, size, CHUNK)
        ]
        for job in jobs:
            job.result()
        list(pool.map(os.fsync, targets.values()))
    for handle in [*sources.values(), *targets.values()]:
        os.close(handle)
    return time.perf_counter() - began


if __name__ == "__main__":
    if sys.argv[1] == "plan":
        plan(Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    else:
        print(copy(Path(sys.argv[2]), Path(sys.argv[3])))
