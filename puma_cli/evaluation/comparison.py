"""Comparing the scores of several models: differences and retention with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from puma_cli.errors import ConfigError, DataError
from puma_cli.evaluation.bootstrap import (
    Array,
    Interval,
    interval,
    ratio_interval,
    resampled_tasks,
)
from puma_cli.evaluation.permutation import permutation_p
from puma_cli.evaluation.published import Published, published_beside
from puma_cli.evaluation.results import LOCAL, Scores, TaskScores
from puma_cli.evaluation.score_folder import read_scores

MEAN = "mean"


@dataclass(frozen=True)
class Cell:
    """One model's result on one task, or on the mean of the tasks, beside the reference's.

    Args:
        score: mean of the metric, 0 to 1, with its 95% interval.
        difference: the score minus the reference's.
        retention: the score over the reference's, or None where that is 0.
        retention_interval: None where the reference scores too rarely to bound the ratio.
        p_value: of the difference, by a paired permutation test; None for the reference.
    """

    score: float
    score_interval: Interval
    difference: float
    difference_interval: Interval
    retention: float | None
    retention_interval: Interval | None
    p_value: float | None = None


@dataclass(frozen=True)
class ComparisonRow:
    """One task (or `mean`): its number of queries and one cell for each model."""

    task: str
    queries: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """Scores of several models on the same queries; the first model is the reference.

    Args:
        models: the models' names; `folders` are where their scores lie.
        rows: one for each task.
        mean: the plain mean over the tasks, queries drawn within each task.
        partial: whether a limit left queries of the data set out.
        notes: what a reader of the table must know.
        published: numbers of other models by the same protocol, if they were asked for.
    """

    metric: str
    pool: str
    split: str
    models: tuple[str, ...]
    folders: tuple[Path, ...]
    rows: tuple[ComparisonRow, ...]
    mean: ComparisonRow
    resamples: int
    seed: int
    partial: bool
    notes: tuple[str, ...]
    published: Published | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON."""
        models = [
            {"model": model, "folder": folder.as_posix()}
            for model, folder in zip(self.models, self.folders, strict=True)
        ]
        rows = [
            {"task": row.task, "queries": row.queries, "cells": [_cell(c) for c in row.cells]}
            for row in (*self.rows, self.mean)
        ]
        return {
            "metric": self.metric,
            "pool": self.pool,
            "split": self.split,
            "partial": self.partial,
            "models": models,
            "rows": rows,
            "resamples": self.resamples,
            "seed": self.seed,
            "notes": list(self.notes),
            "published": None if self.published is None else self.published.to_json(),
        }


def compare(
    folders: Sequence[str | Path],
    *,
    metric: str = "hit@1",
    pool: str = LOCAL,
    resamples: int = 10_000,
    seed: int = 0,
    allow_partial: bool = False,
    published: bool = False,
) -> Comparison:
    """Compare the scores in `folders` with those in the first, query by query.

    The intervals come from a paired bootstrap: each resample draws every task's queries with
    replacement, the same for all models, and averages the tasks plainly.

    Args:
        folders: two or more score folders of the same queries and pools; one is enough beside
            published numbers.
        metric: `hit@K`, `mrr@K`, `hit@k` (each data set's own K) or `ndcg@10`.
        pool: `local` or `union`.
        resamples: number of bootstrap draws (>= 100).
        allow_partial: compare runs under a limit too; the result then says so.
        published: put published numbers beside them.

    Raises:
        ConfigError: fewer than two folders, or an unknown metric.
        DataError: a folder holds no scores, or they are of other queries, pools or tasks than the
            first's, or partial, or transductive where others are not; or followed another
            protocol than published numbers.
    """
    if len(folders) < 2 - published:
        raise ConfigError(
            "A comparison needs at least two score folders.",
            hint="Name the reference first: puma compare TEACHER STUDENT. One is enough with "
            "--published.",
        )
    if resamples < 100:
        raise ConfigError(f"{resamples} resamples are too few for an interval.", hint="Use 10000.")
    paths = tuple(Path(folder) for folder in folders)
    scores = [read_scores(path) for path in paths]
    tables = [{row.task: row for row in each.of_pool(pool)} for each in scores]
    for path, each, table in zip(paths, scores, tables, strict=True):
        _check_same(paths[0], scores[0], tables[0], path, each, table)
        if each.partial and not allow_partial:
            raise DataError(
                f"The scores in `{path}` are partial: {each.left_out}.",
                hint="Score all queries with `puma eval` without --limit and on whole data, or "
                "compare with --allow-partial.",
            )
    beside = [published_beside(each, metric, pool) for each in scores] if published else []
    tasks = list(tables[0])
    values = [np.stack([table[task].values(metric) for table in tables], axis=1) for task in tasks]
    drawn, drawn_mean = resampled_tasks(values, resamples, seed)
    means = np.stack([each.mean(axis=0) for each in values])
    rows = [
        ComparisonRow(
            task,
            len(values[t]),
            _cells(means[t], drawn[t], _p_values([values[t]], resamples, seed)),
        )
        for t, task in enumerate(tasks)
    ]
    total = sum(len(each) for each in values)
    return Comparison(
        metric=metric,
        pool=pool,
        split=scores[0].split,
        models=tuple(each.label for each in scores),
        folders=paths,
        rows=tuple(rows),
        mean=ComparisonRow(
            MEAN,
            total,
            _cells(means.mean(axis=0), drawn_mean, _p_values(values, resamples, seed)),
        ),
        resamples=resamples,
        seed=seed,
        partial=any(each.partial for each in scores),
        notes=tuple(_notes(scores)),
        published=beside[0] if beside else None,
    )


def _p_values(tasks: Sequence[Array], resamples: int, seed: int) -> list[float | None]:
    """Return the p-value of each model's difference from the first, of tasks' values (Q_t, M)."""
    models = range(1, tasks[0].shape[1])
    differences = ([task[:, m] - task[:, 0] for task in tasks] for m in models)
    return [None, *(permutation_p(each, resamples, seed) for each in differences)]


def _cells(means: Array, drawn: Array, p_values: Sequence[float | None]) -> tuple[Cell, ...]:
    """Make one cell for each of M models from its mean (M,) and resampled means (B, M)."""
    return tuple(
        Cell(
            score=float(means[m]),
            score_interval=interval(drawn[:, m]),
            difference=float(means[m] - means[0]),
            difference_interval=interval(drawn[:, m] - drawn[:, 0]),
            retention=float(means[m] / means[0]) if means[0] > 0 else None,
            retention_interval=ratio_interval(drawn[:, m], drawn[:, 0]),
            p_value=p_values[m],
        )
        for m in range(len(means))
    )


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(cell).items()
    }


def _check_same(
    first_path: Path,
    first: Scores,
    first_table: dict[str, TaskScores],
    path: Path,
    other: Scores,
    table: dict[str, TaskScores],
) -> None:
    """Raise DataError unless both score the same queries in the same pools."""
    problem = ""
    if first.protocol != other.protocol:
        problem = f"the rules of {other.protocol}, not of {first.protocol}"
    elif first.hubness_penalty != other.hubness_penalty:
        problem = f"a hubness penalty of {other.hubness_penalty:g}, not {first.hubness_penalty:g}"
    elif first.split != other.split:
        problem = f"the split {other.split!r}, not {first.split!r}"
    elif odd := sorted(set(first_table) ^ set(table)):
        problem = f"other tasks: only one of them has {', '.join(odd)}"
    else:
        for task, row in first_table.items():
            mine = table[task]
            if (row.qids, row.query_hash) != (mine.qids, mine.query_hash):
                problem = f"other queries of {task} ({mine.queries} and {row.queries})"
            elif row.pool_hash != mine.pool_hash:
                problem = f"another pool for {task} ({mine.candidates} and {row.candidates})"
            elif row.k != mine.k:
                problem = f"K = {mine.k} for {task}, not {row.k}"
            if problem:
                break
    if problem:
        raise DataError(
            f"`{path}` cannot be compared with `{first_path}`: it was scored on {problem}.",
            hint="Score both models with the same --data, --split, --tasks and --limit.",
        )


def _notes(scores: Sequence[Scores]) -> list[str]:
    notes = [
        remark for each in scores for remark in each.remarks if not remark.startswith("Partial")
    ]
    if any(each.partial for each in scores):
        left_out = next(each.left_out for each in scores if each.partial)
        notes.append(f"Partial: {left_out}.")
    if len({(each.instruction, each.seed * (each.instruction == "seeded")) for each in scores}) > 1:
        notes.append("The models were given differently chosen instructions.")
    return notes
