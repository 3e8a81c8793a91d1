"""Published numbers, each with its source and pool, and whether ours may stand beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from puma_cli.data.mmeb.names import IMAGE_SETS
from puma_cli.errors import DataError
from puma_cli.evaluation.results import LOCAL, MBEIR, MMEB, Scores

_MMEB_QUERIES = 1000


@dataclass(frozen=True)
class PublishedModel:
    """What was published of one model.

    Args:
        source: where.
        pool: the candidates that it was scored among.
        values: score of each task in [0, 1]; empty where only the mean is known.
        mean: plain mean over the benchmark's rows in [0, 1].
    """

    model: str
    source: str
    pool: str
    values: Mapping[str, float]
    mean: float


@dataclass(frozen=True)
class Published:
    """Published numbers of the same tasks, pool, split and metric as ours.

    Args:
        tasks: tasks that both have; empty where only means are known.
        whole: whether ours are all rows of the benchmark, so that the means compare.
        notes: what is known to differ.
    """

    metric: str
    pool: str
    tasks: tuple[str, ...]
    whole: bool
    models: tuple[PublishedModel, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return this as plain JSON; the mean is null where ours are not all rows."""
        return {
            "metric": self.metric,
            "pool": self.pool,
            "models": [
                {
                    "model": each.model,
                    "source": each.source,
                    "pool": each.pool,
                    "values": {task: each.values[task] for task in self.tasks},
                    "mean": each.mean if self.whole else None,
                }
                for each in self.models
            ],
            "notes": list(self.notes),
        }


def published_metric(protocol: str) -> str:
    """Return the metric that numbers by a protocol are published in."""
    return "hit@1" if protocol == MMEB else "hit@k"


def published_beside(scores: Scores, metric: str, pool: str = LOCAL) -> Published:
    """Return the published numbers that `scores` may stand beside.

    Raises:
        DataError: nothing was published by that protocol, or ours followed another: other data,
            pool, split or metric, a part of the queries, or a transductive correction.
    """
    table = next(
        (t for t in _tables() if (t["protocol"], t["pool"]) == (scores.protocol, pool)), None
    )
    if table is None:
        raise _refused(
            scores,
            f"they follow {scores.protocol} in the {pool} pool, of which no numbers are known",
            "Published are M-BEIR's rows (test, hit@k) and MMEB's means.",
        )
    if metric != table["metric"]:
        raise _refused(
            scores,
            f"{metric} was asked for, and {table['metric']} was published",
            f"Compare with --metric {table['metric']}.",
        )
    if scores.split != table["split"]:
        raise _refused(
            scores,
            f"they are of the split {scores.split!r}, and the published of {table['split']!r}",
            f"Score with --split {table['split']}.",
        )
    if scores.partial:
        raise _refused(
            scores, f"they are partial ({scores.left_out})", "Score all queries on whole data."
        )
    if scores.hubness_penalty:
        raise _refused(
            scores,
            f"they are transductive (hubness penalty {scores.hubness_penalty:g}): every query's "
            "scores depend on all others",
            "Score without --hubness-penalty.",
        )
    tasks = _mmeb_tasks(scores) if scores.protocol == MMEB else _mbeir_tasks(scores, table, pool)
    models = tuple(
        PublishedModel(
            entry["model"],
            entry["source"],
            entry["pool"],
            {task: value / 100 for task, value in entry["values"].items()},
            entry["mean"] / 100,
        )
        for entry in table["models"]
    )
    whole = len(tasks) == len(IMAGE_SETS if scores.protocol == MMEB else table["tasks"])
    if not all(set(tasks) <= set(model.values) for model in models):
        if not whole:
            raise _refused(
                scores, "only the mean over all tasks is known", "Score all tasks of the benchmark."
            )
        tasks = []
    return Published(metric, pool, tuple(tasks), whole, models, tuple(_notes(scores, table)))


def _mbeir_tasks(scores: Scores, table: Mapping[str, Any], pool: str) -> list[str]:
    known = {entry["task"]: entry for entry in table["tasks"]}
    tasks = []
    for row in scores.of_pool(pool):
        entry = known.get(row.task)
        if entry is None:
            raise _refused(
                scores,
                f"{row.task} is no row of M-BEIR",
                "Published rows are for M-BEIR's own sixteen tasks.",
            )
        for what, mine, theirs in (
            ("queries", row.queries, entry["queries"]),
            ("candidates", row.candidates, entry["candidates"]),
            ("K", row.k, entry["k"]),
        ):
            if mine != theirs:
                raise _refused(
                    scores,
                    f"{row.task} has {what} {mine:,}, and the published row {theirs:,}",
                    "Score the released data whole; `puma data check` counts them.",
                )
        tasks.append(row.task)
    return tasks


def _mmeb_tasks(scores: Scores) -> list[str]:
    rows = {row.task: row for row in scores.of_pool(LOCAL)}
    for row in rows.values():
        if row.queries != _MMEB_QUERIES:
            raise _refused(
                scores,
                f"{row.task} has {row.queries:,} queries, and the benchmark's {_MMEB_QUERIES:,}",
                "Score the released data whole.",
            )
    return [name for name in IMAGE_SETS if name in rows]


def _notes(scores: Scores, table: Mapping[str, Any]) -> list[str]:
    notes = []
    if scores.protocol == MBEIR and scores.instruction != table["instruction"]:
        notes.append(
            "The reference draws one of four prompts for each query, without a seed; ours are "
            "each data set's first. --instruction seeded draws too."
        )
    if scores.query_model is not None:
        notes.append("Ours are asymmetric; every published model embeds both sides.")
    return notes


def _refused(scores: Scores, problem: str, hint: str) -> DataError:
    return DataError(
        f"{scores.label}'s scores cannot stand beside published numbers: {problem}.", hint=hint
    )


@cache
def _tables() -> Sequence[Mapping[str, Any]]:
    text = resources.files("puma_cli.evaluation").joinpath("published.json").read_text("utf-8")
    tables: Sequence[Mapping[str, Any]] = json.loads(text)
    return tables
