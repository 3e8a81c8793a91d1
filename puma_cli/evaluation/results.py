"""The scores of one model on one split: per query, per task and pool, and as means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from puma_cli.errors import ConfigError, DataError
from puma_cli.evaluation.metrics import from_first_rank

LOCAL = "local"
UNION = "union"
POOLS = (LOCAL, UNION)
MBEIR = "m-beir"
MMEB = "mmeb"
PAIRS = "pairs"
_BROKEN = {"rows": "broken rows", "images": "broken images"}
CUTOFFS = (1, 5, 10)
NDCG = "ndcg@10"
METRICS = (*(f"hit@{k}" for k in CUTOFFS), "hit@k", "mrr@10", NDCG)


@dataclass(frozen=True, eq=False)
class TaskScores:
    """One task in one pool, query by query.

    Args:
        task: name such as `scenes_task0`.
        dataset: the data set's part of that name.
        pool: `local` or `union`.
        k: the data set's own K, behind the metric `hit@k`.
        candidates: size of the pool.
        available: queries that the data set holds; more than were scored if the run was limited.
        missing: positives that the pool does not hold.
        unanswerable: queries none of whose positives is in the pool; they score 0.
        query_hash: hash of the scored queries with their positives.
        pool_hash: hash of the pool's candidates.
        qids: ids of the Q scored queries.
        ranks: (Q,) rank of the first relevant candidate, 0 for none.
        ties: (Q,) irrelevant candidates that tie with it and count as ahead of it.
        positives: (Q,) judged positives.
        ndcg: (Q,) nDCG@10.
    """

    task: str
    dataset: str
    task_id: int
    pool: str
    k: int
    candidates: int
    available: int
    missing: int
    unanswerable: int
    query_hash: str
    pool_hash: str
    qids: tuple[str, ...]
    ranks: NDArray[np.int64]
    ties: NDArray[np.int64]
    positives: NDArray[np.int64]
    ndcg: NDArray[np.float64]

    @property
    def queries(self) -> int:
        """Number of scored queries."""
        return len(self.qids)

    @property
    def partial(self) -> bool:
        """Whether queries of the data set were left out."""
        return self.queries < self.available

    @property
    def tied(self) -> int:
        """Number of queries whose reported metrics would be better if ties were won."""
        deepest = max(*CUTOFFS, self.k)
        return int(((self.ties > 0) & (self.ranks - self.ties <= deepest)).sum())

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return the metric of each query (Q,).

        Args:
            metric: `hit@K` and `mrr@K` for any K, `hit@k` for the data set's own, or `ndcg@10`.

        Raises:
            ConfigError: there is no such metric.
        """
        if metric == NDCG:
            return self.ndcg
        return from_first_rank(f"hit@{self.k}" if metric == "hit@k" else metric, self.ranks)

    def score(self, metric: str) -> float:
        """Return the mean of a metric over the queries."""
        return float(self.values(metric).mean())

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The means of all reported metrics, by name."""
        return {metric: self.score(metric) for metric in METRICS}


@dataclass(frozen=True, eq=False)
class Scores:
    """What `puma eval` measures.

    Args:
        model: the model as the user named it.
        data: the data set as the user named it.
        tasks: the glob that chose the tasks.
        instruction: how each query's prompt was chosen, `first` or `seeded` (by `seed`).
        limit: the largest number of queries of a task, or None.
        rows: one entry for each task and pool.
        protocol: whose rules they follow: `m-beir`, `mmeb` or `pairs`, which are M-BEIR's over
            tables of pairs.
        skipped: what was left out because it is broken, by what it is.
        query_model: what embedded the queries, if not `model`; then
        space: says what puts both into one space.
        hubness_penalty: share of a candidate's mean cosine over all queries that was taken from
            its scores; above 0 the result is transductive.
    """

    model: str
    data: str
    split: str
    tasks: str
    instruction: str
    seed: int
    limit: int | None
    rows: tuple[TaskScores, ...]
    protocol: str = MBEIR
    skipped: Mapping[str, int] = field(default_factory=dict)
    query_model: str | None = None
    space: str = ""
    hubness_penalty: float = 0.0

    @property
    def label(self) -> str:
        """The model, or both where queries and candidates have their own."""
        return self.model if self.query_model is None else f"{self.query_model} on {self.model}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What sets the scores apart from the benchmark's own, in sentences."""
        found = []
        if self.query_model is not None:
            found.append(
                f"Asymmetric: queries by {self.query_model}, candidates by {self.model} "
                f"({self.space})."
            )
        if self.hubness_penalty:
            found.append(
                f"Transductive: {self.hubness_penalty:g} of each candidate's mean cosine over all "
                "queries is taken from its scores. No benchmark allows this."
            )
        if self.partial:
            found.append(f"Partial: {self.left_out}.")
        return tuple(found)

    @property
    def partial(self) -> bool:
        """Whether something was left out, so that no row is the benchmark's own number."""
        return any(row.partial for row in self.rows) or any(self.skipped.values())

    @property
    def left_out(self) -> str:
        """What was left out, in words; empty if nothing was."""
        parts = [
            f"{count} {_BROKEN.get(kind, kind)} left out"
            for kind, count in self.skipped.items()
            if count
        ]
        if self.limit is not None and any(row.partial for row in self.rows):
            parts.insert(0, f"at most {self.limit} queries of each task")
        return ", ".join(parts)

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools that were searched."""
        return tuple(dict.fromkeys(row.pool for row in self.rows))

    def of_pool(self, pool: str) -> tuple[TaskScores, ...]:
        """Return the rows of one pool.

        Raises:
            DataError: that pool was not searched.
        """
        rows = tuple(row for row in self.rows if row.pool == pool)
        if not rows:
            raise DataError(
                f"There are no scores for the pool {pool!r} in {self.model}'s results.",
                cause=f"It was scored on: {', '.join(self.pools)}.",
            )
        return rows

    def row(self, task: str, pool: str = LOCAL) -> TaskScores:
        """Return one row.

        Raises:
            DataError: that task was not scored in that pool.
        """
        for row in self.of_pool(pool):
            if row.task == task:
                return row
        raise DataError(
            f"There are no scores for the task {task!r} in {self.model}'s results.",
            cause=f"It was scored on: {', '.join(row.task for row in self.of_pool(pool))}.",
        )

    def mean(self, metric: str = "hit@1", pool: str = LOCAL) -> float:
        """Return the plain mean of a metric over the rows of a pool, as published averages are.

        Raises:
            ConfigError: there is no such metric.
            DataError: that pool was not searched.
        """
        return float(np.mean([row.score(metric) for row in self.of_pool(pool)]))

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """The means over rows of all reported metrics, by pool and metric."""
        return {pool: {m: self.mean(m, pool) for m in METRICS} for pool in self.pools}


def check_pools(pools: tuple[str, ...]) -> None:
    """Raise ConfigError unless `pools` names `local`, `union` or both."""
    wrong = [pool for pool in pools if pool not in POOLS]
    if wrong or not pools or len(set(pools)) < len(pools):
        raise ConfigError(
            f"{wrong[0] if wrong else ','.join(pools)!r} names no candidate pools.",
            hint="Pools are `local` (a task's own candidates) and `union` (those of all tasks).",
        )
