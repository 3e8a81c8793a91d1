"""Which queries and candidates an analysis looks at: an even, seeded draw from every task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puma_cli.config.settings import AnalyzeSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.evaluation.results import LOCAL
from puma_cli.evaluation.tasks import Pool, Task, make_pool, part_of, read_tasks
from puma_cli.models.inputs import Input
from puma_cli.profiling.bridges.training_rows import shares


@dataclass(frozen=True)
class Sample:
    """The queries and pools of an analysis, every distinct input once.

    Args:
        tasks: the tasks with their chosen queries.
        pools: the candidates of each task.
        queries: the distinct queries as the embedder sees them.
        candidates: the distinct candidates; those that are relevant to a query come first.
        query_rows: for each task the place in `queries` of each of its queries.
        candidate_rows: for each task the place in `candidates` of each of its pool's entries.
        relevant: for each task and query the entries of its pool that are relevant.
        positives: how many of `candidates` are relevant to a query.
        partial: whether queries or candidates of the data were left out.
    """

    tasks: tuple[Task, ...]
    pools: tuple[Pool, ...]
    queries: tuple[Input, ...]
    candidates: tuple[Input, ...]
    query_rows: tuple[tuple[int, ...], ...]
    candidate_rows: tuple[tuple[int, ...], ...]
    relevant: tuple[tuple[tuple[int, ...], ...], ...]
    positives: int
    partial: bool


def draw_sample(
    data: MbeirFolder,
    split: str,
    pattern: str = "*",
    *,
    samples: int,
    pool: int,
    limit: int | None = None,
    seed: int = 0,
) -> Sample:
    """Draw queries of every task and, for each, its pool's relevant candidates and some others.

    Args:
        samples: at most this many queries in all; tasks get equal shares of them, and what a small
            one leaves goes to the others.
        pool: at most this many candidates of each task (>= 1); the relevant ones always stay.
        limit: at most this many queries of each task, spread evenly over its file.

    Raises:
        DataError: a file is missing or broken.
    """
    asked = read_tasks(data, split, pattern, limit)
    counts = shares([len(task.queries) for task in asked], max(samples, len(asked)))
    tasks = tuple(
        _chosen(task, count, (seed, place), data)
        for place, (task, count) in enumerate(zip(asked, counts, strict=True))
    )
    pools, cut = [], False
    for place, task in enumerate(tasks):
        whole = make_pool(LOCAL, data.local_pool(task.name, split), data.root)
        pools.append(_smaller(whole, task, pool, (seed, place), data))
        cut |= len(pools[-1].candidates) < len(whole.candidates)
    relevant = tuple(
        tuple(tuple(row) for row in found.places_of(task.relevant))
        for found, task in zip(pools, tasks, strict=True)
    )
    inputs = [found.inputs() for found in pools]
    places: dict[Input, int] = {}
    for entries, rows in zip(inputs, relevant, strict=True):
        for row in rows:
            for entry in row:
                places.setdefault(entries[entry], len(places))
    positives = len(places)
    candidate_rows = tuple(
        tuple(places.setdefault(entry, len(places)) for entry in entries) for entries in inputs
    )
    asks: dict[Input, int] = {}
    query_rows = tuple(
        tuple(asks.setdefault(entry, len(asks)) for entry in task.inputs(data.instructions))
        for task in tasks
    )
    return Sample(
        tasks=tasks,
        pools=tuple(pools),
        queries=tuple(asks),
        candidates=tuple(places),
        query_rows=query_rows,
        candidate_rows=candidate_rows,
        relevant=relevant,
        positives=positives,
        partial=cut or any(len(task.queries) < task.available for task in tasks),
    )


def sample_for(settings: AnalyzeSettings, data: MbeirFolder) -> Sample:
    """Return the sample that an analysis with these settings looks at."""
    return draw_sample(
        data,
        settings.split,
        settings.tasks,
        samples=settings.samples,
        pool=settings.pool_size,
        limit=settings.limit,
        seed=settings.seed,
    )


def _chosen(task: Task, count: int, seed: tuple[int, int], data: MbeirFolder) -> Task:
    if count >= len(task.queries):
        return task
    drawn = np.random.default_rng(seed).choice(len(task.queries), count, replace=False)
    return part_of(task, sorted(int(place) for place in drawn), data.root)


def _smaller(pool: Pool, task: Task, limit: int, seed: tuple[int, int], data: MbeirFolder) -> Pool:
    if len(pool.candidates) <= limit:
        return pool
    wanted = {place for row in pool.places_of(task.relevant) for place in row}
    others = [place for place in range(len(pool.candidates)) if place not in wanted]
    left = max(0, limit - len(wanted))
    drawn = np.random.default_rng(seed).choice(len(others), left, replace=False)
    kept = sorted(wanted | {others[place] for place in drawn})
    return make_pool(pool.name, [pool.candidates[place] for place in kept], data.root)
