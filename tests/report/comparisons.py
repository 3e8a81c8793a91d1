"""A comparison of two models on two tasks."""

from __future__ import annotations

from pathlib import Path

from puma_cli.evaluation.bootstrap import Interval
from puma_cli.evaluation.comparison import Cell, Comparison, ComparisonRow


def comparison() -> Comparison:
    """Return scores of .8 and .6 for the first model, .7 and .5 for the second."""
    rows = tuple(_row(task, *scores) for task, scores in {"a": (0.8, 0.7), "b": (0.6, 0.5)}.items())
    return Comparison(
        metric="hit@1",
        pool="local",
        split="test",
        models=("teacher", "student"),
        folders=(Path("t"), Path("s")),
        rows=rows,
        mean=_row("mean", 0.7, 0.6),
        resamples=100,
        seed=0,
        partial=False,
        notes=(),
    )


def _row(task: str, *scores: float) -> ComparisonRow:
    return ComparisonRow(task, 10, tuple(_cell(score, scores[0]) for score in scores))


def _cell(score: float, reference: float) -> Cell:
    around = Interval(score - 0.1, score + 0.1)
    return Cell(score, around, score - reference, around, score / reference, around)
