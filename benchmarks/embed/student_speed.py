"""A student's speed beside its teacher's, as a share of the ratio of their FLOPs.

    python benchmarks/embed/student_speed.py --json student-speed.json

The teacher is a random Qwen2-VL of some 210 M parameters, the student its first layers, written by
`puma prune`; both are measured by `puma bench` on its made-up mixture, or on --data. The goal: at
batch 1 and in batches, queries and candidates, the model alone reaches .9 of the ratio, vision
counted. Run it on a quiet machine; with --tiny it only shows that it works.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

import torch

from puma_cli import BenchSettings, PruneSettings, bench, prune
from puma_cli.benching.results import SIDES, Bench
from puma_cli.config.training_settings import FreshSettings
from puma_cli.models.fresh import build_fresh
from puma_cli.report.bench_table import bench_tables

GOAL = 0.9
KINDS = {"alone_model": "batch 1", "batched_model": "in batches"}
SHAPE = FreshSettings(
    hidden_size=1024,
    layers=16,
    heads=16,
    key_value_heads=4,
    intermediate_size=2816,
    vocabulary=4096,
    vision_size=512,
    vision_layers=8,
    vision_heads=8,
    image_size=224,
)
TINY = FreshSettings(hidden_size=64, layers=8, heads=4, intermediate_size=128, vocabulary=320)
TEXTS = ("small red circle left of a large blue square", "a photograph of a river in winter")


def main() -> None:
    """Make both models, measure them, print the table and the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=int, default=4)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--alone", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, help="torch threads; by default all cores")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as name:
        teacher, student = Path(name) / "teacher", Path(name) / "student"
        embedder = build_fresh(TINY if asked.tiny else SHAPE, TEXTS * 200)
        teacher.mkdir()
        embedder.save(teacher)
        del embedder
        prune(PruneSettings(str(teacher), student, keep=asked.keep, verify="none"))
        found = bench(
            BenchSettings(
                models=(str(teacher), str(student)),
                data=asked.data,
                inputs=asked.inputs,
                alone=asked.alone,
                rounds=asked.rounds,
                image_side=224,
                device=asked.device,
                dtype=asked.dtype,
            )
        )
    print(f"{found.device}, {found.dtype}, {platform.machine()}, torch {torch.__version__}")
    print(f"Inputs: {found.inputs}.\n")
    for headings, rows in bench_tables(found):
        print(f"| {' | '.join(headings)} |")
        print(f"|{'---|' * len(headings)}")
        print(*(f"| {' | '.join(row)} |" for row in rows), sep="\n")
    print("", *verdicts(found), sep="\n")
    if asked.json:
        asked.json.write_text(json.dumps(found.to_json(), indent=2), encoding="utf-8")


def verdicts(found: Bench) -> list[str]:
    """Return a line for each side and kind of work."""
    student = found.models[-1]
    lines = []
    for side in SIDES:
        for kind, label in KINDS.items():
            timing = getattr(student.side(side), kind)
            met = "yes" if timing.of_ideal >= GOAL else "NO"
            lines.append(
                f"- {met}: {side}, {label}: {timing.faster.median:.2f} times as fast "
                f"({timing.faster.low:.2f} to {timing.faster.high:.2f}), "
                f"{timing.of_ideal:.2f} of the ideal {timing.ideal:.2f}; goal {GOAL}."
            )
    return lines


if __name__ == "__main__":
    main()
