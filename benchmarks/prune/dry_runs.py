"""`puma prune --dry-run` on full-size stand-ins of three published models: seconds and plans.

python benchmarks/prune/dry_runs.py --work-dir runs/prune-speed --write dry_runs.md
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from measured import PUMA, Way, alternate, machine, make_stand_in, publish

MODELS = {"qwen2-vl-7b": 12, "llava-1.5-7b": 16, "gemma-3-4b": 16}
LIMIT = 2.0  # seconds
# Of Qwen2-VL-7B to 12 layers, in billions before and after, with and without the LM head.
PAPER = {"keep": (8.29, 4.56), "drop": (7.75, 4.02)}


def main() -> int:
    """Run everything; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, help="where to write the fragment")
    asked = parser.parse_args()
    asked.work_dir.mkdir(parents=True, exist_ok=True)
    folders = {name: make_stand_in(name, asked.work_dir) for name in MODELS}
    ways = [
        Way(name, [str(PUMA), "prune", str(folder), "--keep", str(MODELS[name]), "--dry-run"])
        for name, folder in folders.items()
    ]
    alternate(ways, asked.rounds, asked.work_dir / "out", frozenset())
    lines = [
        f"Command: `python benchmarks/prune/dry_runs.py --rounds {asked.rounds}`. Machine: "
        f"{machine(asked.work_dir)}. Medians of {asked.rounds} whole processes.",
        "",
        "| stand-in | layers kept | seconds | peak memory |",
        "|---|---|---|---|",
    ]
    for way in ways:
        shown = f"| {way.median:.2f} | {max(way.memory) / 1e6:.0f} MB |" if way.seconds else ""
        lines.append(f"| {way.name} | {MODELS[way.name]} {shown or f'| {way.failure} | |'}")
    held = all(way.seconds and way.median < LIMIT for way in ways)
    counts = {head: _parameters(folders["qwen2-vl-7b"], head) for head in PAPER}
    # Without its head the model is smaller before the cut too.
    head = counts["keep"][1] - counts["drop"][1]
    found = {"keep": counts["keep"], "drop": (counts["drop"][0] - head, counts["drop"][1])}
    rounded = {key: tuple(round(n / 1e9, 2) for n in pair) for key, pair in found.items()}
    held = held and rounded == PAPER
    lines += [
        "",
        f"- {'yes' if held else 'NO'}: each under {LIMIT:g} s; Qwen2-VL-7B to 12 layers: "
        f"{rounded['keep'][0]} B to {rounded['keep'][1]} B with the LM head, "
        f"{rounded['drop'][0]} B to {rounded['drop'][1]} B without.",
    ]
    for name, folder in folders.items():
        lines += ["", *_shown(name, folder, MODELS[name])]
    publish(lines, asked.write)
    return int(not held)


def _parameters(folder: Path, head: str) -> tuple[int, int]:
    command = [str(PUMA), "prune", str(folder), "--keep", "12", "--lm-head", head]
    command += ["--dry-run", "--json"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    plan = json.loads(run.stdout)
    return int(plan["parameters_before"]), int(plan["parameters_after"])


def _shown(name: str, folder: Path, keep: int) -> list[str]:
    """Return what a user who stands beside the folder sees."""
    command = ["puma", "prune", name, "--keep", str(keep), "--dry-run"]
    run = subprocess.run(
        [str(PUMA), *command[1:]], capture_output=True, text=True, cwd=folder.parent
    )
    return ["```console", f"$ {' '.join(command)}", *run.stdout.rstrip().splitlines(), "```"]


if __name__ == "__main__":
    sys.exit(main())
