"""The demo over several seeds, beside the same cut trained by InfoNCE alone for the same steps.

    python benchmarks/demo_seeds.py --seeds 0 1 2 --write docs/results/demo.md

Stopped and started again, it goes on where it was. Scenes are drawn anew for each seed, so seeds
differ in training and test data as well as in the order of training; the teacher is always the
shipped puma-mini, whose training never saw any seed's test compositions.
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
    DemoSettings,
    DistillSettings,
    EvaluateSettings,
    compare,
    distill,
    evaluate,
    run_demo,
)
from puma_cli.checkpoint.layout import TRAINING
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.config.loading import load_settings
from puma_cli.demo.outcome import DemoResult
from puma_cli.evaluation.comparison import Comparison

NAMES = ("full model, 12 layers", "cut to 4, untrained", "cut to 4, InfoNCE alone", "student, 4")


def main() -> None:
    """Run all seeds, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", type=Path, help="where to write the page")
    asked = parser.parse_args()
    results, comparisons = [], []
    for seed in asked.seeds:
        root = asked.output_dir / f"seed-{seed}"
        settings = DemoSettings(output_dir=root / "demo", seed=seed, device=asked.device)
        results.append(run_demo(settings))
        plain = train_without_teacher(settings, root / "infonce")
        scores = root / "demo" / "scores"
        folders = [scores / "teacher", scores / "cut", plain, scores / "student"]
        comparisons.append([compare(folders, metric=metric) for metric in ("hit@1", "hit@5")])
        print(f"seed {seed}: " + summary(comparisons[-1][0]), flush=True)
    page = write_page(asked.seeds, results, comparisons)
    if asked.write:
        asked.write.write_text(page, encoding="utf-8")
    else:
        print(page)


def train_without_teacher(demo: DemoSettings, root: Path) -> Path:
    """Train the demo's cut by InfoNCE alone, score it on test, and return the scores' folder."""
    settings = load_settings(
        DistillSettings,
        config="demo",
        overrides=["loss.contrastive_weight=1", "loss.cosine=0", "loss.similarity=0", "loss.mse=0"],
        flags={
            "student": str(demo.output_dir / "pruned"),
            "data": demo.output_dir / "scenes",
            "output_dir": root / "student",
            "device": demo.device,
            "seed": demo.seed,
        },
    )
    running = (root / "student" / TRAINING).is_dir()
    if running or read_provenance(root / "student") is None:
        distill(replace(settings, resume=running))
    scores = root / "scores"
    if read_provenance(scores) is None:
        evaluate(
            EvaluateSettings(
                model=str(root / "student"),
                data=demo.output_dir / "scenes",
                output_dir=scores,
                pools=("local",),
                device=demo.device,
                seed=demo.seed,
            )
        )
    return scores


def summary(comparison: Comparison) -> str:
    """Say the mean scores in one line."""
    cells = zip(NAMES, comparison.mean.cells, strict=True)
    return ", ".join(f"{name} {cell.score:.1%}" for name, cell in cells)


def write_page(
    seeds: Sequence[int], results: Sequence[DemoResult], comparisons: Sequence[list[Comparison]]
) -> str:
    """Return the page with one table over the seeds and one for each."""
    minutes = [sum(result.seconds.values()) / 60 for result in results]
    lines = [
        "# The demo over seeds",
        "",
        f"Command: `python benchmarks/demo_seeds.py --seeds {' '.join(map(str, seeds))}`. "
        f"Machine: {platform.machine()}, {torch.get_num_threads()} CPU threads, "
        f"{'a CUDA device' if torch.cuda.is_available() else 'no GPU'}, "
        f"torch {torch.__version__.partition('+')[0]}. "
        f"The demo took {' / '.join(f'{m:.1f}' for m in minutes)} minutes.",
        "",
        "Mean over the eight tasks of scenes, test split, local pools. Each seed draws other "
        "scenes; the held-out compositions are the same, and the full model never saw them. "
        "InfoNCE alone: the same cut, data, batches and number of steps, without the teacher.",
        "",
        "## Over the seeds",
        "",
        "| | hit@1, mean (lowest to highest) | hit@5, mean | keeps of hit@1, mean |",
        "|---|---|---|---|",
    ]
    for index, name in enumerate(NAMES):
        first = [pair[0].mean.cells[index] for pair in comparisons]
        fifth = [pair[1].mean.cells[index].score for pair in comparisons]
        ones = [cell.score for cell in first]
        kept = [cell.retention for cell in first if cell.retention is not None]
        lines.append(
            f"| {name} | {100 * statistics.mean(ones):.1f} "
            f"({100 * min(ones):.1f} to {100 * max(ones):.1f}) | "
            f"{100 * statistics.mean(fifth):.1f} | {100 * statistics.mean(kept):.1f}% |"
        )
    for seed, pair in zip(seeds, comparisons, strict=True):
        lines += ["", f"## Seed {seed}, hit@1", "", table(pair[0])]
    return "\n".join(lines) + "\n"


def table(comparison: Comparison) -> str:
    """Return one comparison as a Markdown table, with the intervals of the mean."""
    lines = ["| task | " + " | ".join(NAMES) + " |", "|---|" + "---|" * len(NAMES)]
    for row in comparison.rows:
        cells = " | ".join(f"{100 * cell.score:.1f}" for cell in row.cells)
        lines.append(f"| {row.task} | {cells} |")
    means = []
    for cell in comparison.mean.cells:
        low, high = cell.score_interval
        means.append(f"**{100 * cell.score:.1f}** ({100 * low:.1f} to {100 * high:.1f})")
    lines.append("| mean | " + " | ".join(means) + " |")
    kept = []
    for cell in comparison.mean.cells:
        bounds = cell.retention_interval
        share = "" if cell.retention is None else f"{100 * cell.retention:.1f}%"
        kept.append(
            share + (f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})" if bounds else "")
        )
    lines.append("| keeps | " + " | ".join(kept) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
