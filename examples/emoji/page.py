"""Write docs/results/emoji.md from a finished run of this example.

python examples/emoji/page.py runs/emoji docs/results/emoji.md
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np
import torch

from puma_cli import compare
from puma_cli.checkpoint.layout import LOG
from puma_cli.checkpoint.provenance import Provenance, read_provenance
from puma_cli.evaluation.comparison import Cell, Comparison, ComparisonRow
from puma_cli.evaluation.results import TaskScores
from puma_cli.evaluation.score_folder import read_scores

MODELS = ("teacher", "cut", "student")
TASKS = {
    0: "keywords to drawing",
    1: "keywords to name",
    2: "keywords to drawing+name",
    3: "drawing to name",
    4: "drawing to the other style",
    6: "drawing+change to name",
    7: "drawing+change to drawing",
    8: "drawing+change to drawing+name",
}
# A task counts as hardly learnt while the full model's hit@5 is below this share.
HARDLY = 0.05
AIM = 0.40

PAGE = """\
# Emoji: a real data set

Command: `EMOJI_ROOT=... examples/emoji/run.sh`, seed {seed}. Machine: {machine}. {times}

A model of puma-mini's shape ({layers} decoder layers, {parameters:.2f} M parameters) was trained
from nothing, cut to its first {kept} layers and distilled from its full depth. What the data are
made of, and what the test holds out, is said
[beside the scripts](../../examples/emoji/README.md).

Test split, {queries:,} queries, local pools, in percent, with 95% bootstrap intervals over the
queries; *chance* is the expectation of a random ranking.

## hit@1

{first}

## hit@5

{fifth}

## What it shows

{verdict}

Validation hit@1 while training ({limit} queries a task):

- the full model: {full_curve};
- the student: {student_curve}.

The best of each is the one that was scored.
"""


def main(runs: Path, page: Path) -> None:
    """Read the run's folders and write the page."""
    folders = [runs / "scores" / name for name in MODELS]
    rows = {row.task: row for row in read_scores(folders[0]).of_pool("local")}
    first, fifth = (compare(folders, metric=metric) for metric in ("hit@1", "hit@5"))
    teacher, student = (_history(runs / name) for name in ("teacher", "student"))
    cut = _history(runs / "cut")
    page.write_text(
        PAGE.format(
            seed=teacher.seed,
            machine=_machine(),
            times=f"Training took {_minutes(teacher)} minutes for the full model "
            f"({_steps(teacher):,} steps) and {_minutes(student)} for the student "
            f"({_steps(student):,} steps).",
            layers=cut.results["layers_before"],
            parameters=cut.results["parameters_before"] / 1e6,
            kept=len(cut.kept_layers or ()),
            queries=first.mean.queries,
            first=_table(first, rows, 1),
            fifth=_table(fifth, rows, 5),
            verdict=_verdict(fifth, rows),
            limit=teacher.settings["train"]["validation_limit"],
            full_curve=_curve(runs / "teacher"),
            student_curve=_curve(runs / "student"),
        ),
        encoding="utf-8",
    )


def _history(folder: Path) -> Provenance:
    history = read_provenance(folder)
    if history is None:
        sys.exit(f"{folder} is not finished; run examples/emoji/run.sh first.")
    return history


def _steps(history: Provenance) -> int:
    return int(history.results["progress"]["step"])


def _minutes(history: Provenance) -> str:
    return f"{history.results['progress']['seconds'] / 60:.0f}"


def _machine() -> str:
    device = "a CUDA device" if torch.cuda.is_available() else "no GPU"
    version = torch.__version__.partition("+")[0]
    return f"{platform.machine()}, {torch.get_num_threads()} CPU threads, {device}, torch {version}"


def _table(comparison: Comparison, rows: dict[str, TaskScores], k: int) -> str:
    lines = [
        "| task | queries | chance | full model | cut, untrained | student | student keeps |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in comparison.rows:
        scores = rows[row.task]
        name = f"{scores.task_id}, {TASKS.get(scores.task_id, row.task)}"
        lines.append(_line(name, row, chance(scores, k)))
    mean = float(np.mean([chance(rows[row.task], k) for row in comparison.rows]))
    lines.append(_line("**mean**", comparison.mean, mean))
    return "\n".join(lines)


def _line(name: str, row: ComparisonRow, by_chance: float) -> str:
    cells = " | ".join(_score(cell) for cell in row.cells)
    return (
        f"| {name} | {row.queries:,} | {100 * by_chance:.1f} | {cells} | {_kept(row.cells[-1])} |"
    )


def chance(scores: TaskScores, k: int) -> float:
    """Return the expected hit@k of a random ranking of the task's pool."""
    missed = np.ones(len(scores.positives))
    for place in range(k):
        left = scores.candidates - place
        missed *= np.clip(left - scores.positives, 0, None) / left
    return float(1 - missed.mean())


def _score(cell: Cell) -> str:
    low, high = cell.score_interval
    return f"{100 * cell.score:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _kept(cell: Cell) -> str:
    if cell.retention is None:
        return "–"
    bounds = cell.retention_interval
    share = f"{100 * cell.retention:.1f}%"
    return share + (f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})" if bounds else "")


def _verdict(fifth: Comparison, rows: dict[str, TaskScores]) -> str:
    full, student = fifth.mean.cells[0], fifth.mean.cells[-1]
    reached = "reaches" if full.score >= AIM else "falls short of"
    hard = [str(rows[row.task].task_id) for row in fifth.rows if row.cells[0].score < HARDLY]
    text = (
        f"The full model's mean hit@5 of {100 * full.score:.1f} {reached} the {100 * AIM:.0f} that "
        f"this run aims at; the student keeps {_kept(student)} of it."
    )
    if hard:
        text += (
            f" Hardly learnt (the full model's hit@5 is below {100 * HARDLY:.0f}): "
            f"{'task' if len(hard) == 1 else 'tasks'} {' and '.join(hard)}."
        )
    return text


def _curve(folder: Path) -> str:
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    found = [line for line in map(json.loads, lines) if "validation_hit@1" in line]
    return ", ".join(
        f"{100 * line['validation_hit@1']:.1f} after {line['step']:,} steps" for line in found
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
