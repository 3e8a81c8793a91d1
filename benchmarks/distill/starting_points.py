"""The demo's student from three starting points: the plain cut, its bridge, a bridge that fades.

    python benchmarks/distill/starting_points.py --seeds 0 1 2 --write starting-points.md

Scenes, cut, recipe and steps are the demo's; each seed draws other scenes. A bridge is fitted to
the training split in closed form and trains with the student; one that fades has gone half-way
through, and leaves a stock model. Stopped and started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from puma_cli import (
    DistillSettings,
    EvaluateSettings,
    PruneSettings,
    compare,
    distill,
    evaluate,
    make_scenes,
    prune,
)
from puma_cli.checkpoint.layout import TRAINING
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.config.loading import load_settings
from puma_cli.evaluation.results import LOCAL

MODEL, KEPT = "puma-mini", 4
STARTS = {"plain cut": [], "bridge": [], "bridge that fades": ["train.fade_head=true"]}


def main() -> None:
    """Train and score every student, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs/starting-points"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), default=list(STARTS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", type=Path, help="where to write the table")
    asked = parser.parse_args()
    rows: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in asked.starts}
    for seed in asked.seeds:
        root = asked.output_dir / f"seed-{seed}"
        data = root / "scenes"
        if read_provenance(data) is None:
            make_scenes(data, train_scenes=2_000, val_targets=60, test_targets=200, seed=seed)
        teacher = score(MODEL, data, root / "scores-teacher", asked.device)
        for name in asked.starts:
            folder = root / name.replace(" ", "-")
            cut = cut_to_start_from(data, root, name, asked.device)
            before = score(str(cut), data, cut.with_name(f"scores-{cut.name}"), asked.device)
            student = train(cut, data, folder / "student", name, seed, asked.device)
            after = score(str(student), data, folder / "scores", asked.device)
            found = compare([teacher, before, after], metric="hit@1")
            _, untrained, trained = found.mean.cells
            assert untrained.retention and trained.retention and trained.retention_interval
            rows[name].append((untrained.retention, trained.retention, *trained.retention_interval))
            print(f"seed {seed}, {name}: keeps {trained.retention:.1%}", flush=True)
    table = page(asked.seeds, rows)
    if asked.write:
        asked.write.write_text(table, encoding="utf-8")
    print(table)


def cut_to_start_from(data: Path, root: Path, start: str, device: str) -> Path:
    """Return the cut, with a bridge if the student starts from one."""
    bridged = start != "plain cut"
    cut = root / ("bridged" if bridged else "cut")
    if read_provenance(cut) is None:
        plain = PruneSettings(MODEL, cut, keep=KEPT)
        prune(replace(plain, bridge=True, data=data, device=device) if bridged else plain)
    return cut


def train(cut: Path, data: Path, student: Path, start: str, seed: int, device: str) -> Path:
    """Return the student's folder, trained by the demo's recipe."""
    settings = load_settings(
        DistillSettings,
        config="demo",
        overrides=[*STARTS[start], f"train.cache_dir={student.parents[1] / 'teacher'}"],
        flags={
            "student": str(cut),
            "teacher": MODEL,
            "data": data,
            "output_dir": student,
            "device": device,
            "seed": seed,
            "resume": (student / TRAINING).is_dir(),
        },
    )
    if settings.resume or read_provenance(student) is None:
        distill(settings)
    return student


def score(model: str, data: Path, folder: Path, device: str) -> Path:
    """Return the folder of a model's test scores."""
    if read_provenance(folder) is None:
        evaluate(EvaluateSettings(model, data, folder, split="test", pools=(LOCAL,), device=device))
    return folder


def page(seeds: Sequence[int], rows: dict[str, list[tuple[float, float, float, float]]]) -> str:
    """Return the table in Markdown."""
    shown = " ".join(map(str, seeds))
    columns = " | ".join(f"seed {seed}" for seed in seeds)
    lines = [
        f"Command: `python benchmarks/distill/starting_points.py --seeds {shown}`. Machine: "
        f"{platform.machine()}, {torch.get_num_threads()} CPU threads, "
        f"{'CUDA' if torch.cuda.is_available() else 'no GPU'}, torch {torch.__version__}.",
        "",
        f"| start | untrained keeps, mean | {columns} | mean |",
        f"|---|---|{'---|' * len(seeds)}---|",
    ]
    for name, found in rows.items():
        untrained = statistics.mean(row[0] for row in found)
        each = " | ".join(f"{row[1]:.1%} ({row[2]:.1%} to {row[3]:.1%})" for row in found)
        mean = statistics.mean(row[1] for row in found)
        lines.append(f"| {name} | {untrained:.1%} | {each} | **{mean:.1%}** |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
