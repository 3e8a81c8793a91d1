"""Peak memory of `puma prune` for two sizes of checkpoint, with and without a cast.

python benchmarks/prune/memory.py --work-dir runs/prune-speed --write memory.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from measured import PUMA, Way, alternate, machine, make_stand_in, publish, tensor_bytes, warm

KEEP = 12
LIMIT = 250e6  # bytes, without a cast
SPREAD = 16e6  # bytes by which the peaks of two sizes may differ


def main() -> int:
    """Run everything; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="tiny checkpoints, to try the script")
    parser.add_argument("--write", type=Path, help="where to write the table")
    asked = parser.parse_args()
    asked.work_dir.mkdir(parents=True, exist_ok=True)
    names = ("llama-tiny", "llama-0.7gb") if asked.tiny else ("llama-0.7gb", "llama-2.7gb")
    models = [make_stand_in(name, asked.work_dir) for name in names]
    kinds: list[tuple[str, tuple[str, ...]]] = [("as it is", ()), ("to float32", ("float32",))]
    rows: list[tuple[Path, str, Way]] = []
    for model in models:
        warm(model)
        for kind, dtype in kinds:
            command = [str(PUMA), "prune", str(model), "--keep", str(KEEP), "--verify", "none"]
            command += ["--quiet", *(("--dtype", *dtype) if dtype else ())]
            command += ["--output-dir", "{out}"]
            rows.append((model, kind, Way(f"{model.name}, {kind}", command)))
    alternate([way for _, _, way in rows], asked.rounds, asked.work_dir / "out", frozenset())
    lines = [
        f"Command: `python benchmarks/prune/memory.py --rounds {asked.rounds}"
        f"{' --tiny' if asked.tiny else ''}`. Machine: {machine(asked.work_dir)}. Highest peak of "
        f"resident memory over {asked.rounds} runs; 24 layers cut to {KEEP}, no proof.",
        "",
        "| checkpoint | written | peak memory |",
        "|---|---|---|",
    ]
    for model, kind, way in rows:
        shown = way.failure or f"{max(way.memory) / 1e6:.0f} MB"
        lines.append(f"| {tensor_bytes(model) / 1e9:.2f} GB | {kind} | {shown} |")
    failed = [way.failure for _, _, way in rows if way.failure]
    plain = [max(way.memory) for _, kind, way in rows if kind == "as it is" and way.memory]
    held = not failed and max(plain) <= LIMIT and max(plain) - min(plain) <= SPREAD
    lines += [
        "",
        f"- {'yes' if held else 'NO'}: without a cast at most {LIMIT / 1e6:.0f} MB, whatever the "
        f"checkpoint's size (the two differ by at most {SPREAD / 1e6:.0f} MB).",
    ]
    publish(lines, asked.write)
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
