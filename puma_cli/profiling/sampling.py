"""Which queries and candidates an analysis looks at: an even, seeded draw from every task."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

import numpy as np

from puma_cli.config.settings import AnalyzeSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.evaluation.results import LOCAL
from puma_cli.evaluation.tasks import Pool, Task, make_pool, part_of, read_tasks
from puma_cli.models.inputs import Input
from puma_cli.profiling.bridges.training_rows import shares


@dataclass(frozen=True)
class SampledTask:
    """One task's part of a sample.

    Args:
        name: name such as `scenes_task0`.
        queries: for each of its queries the place in the sample's queries.
        candidates: for each entry of its pool the place in the sample's candidates.
        relevant: for each query the entries of the pool that are relevant.
        judged: for each query how many relevant candidates the data name, in the pool or not.
    """

    name: str
    queries: tuple[int, ...]
    candidates: tuple[int, ...]
    relevant: tuple[tuple[int, ...], ...]
    judged: tuple[int, ...]

    def only(self, queries: Container[int], candidates: Container[int]) -> SampledTask:
        """Return the task with these of the sample's queries and candidates alone."""
        asked = [row for row, place in enumerate(self.queries) if place in queries]
        entries = [entry for entry, place in enumerate(self.candidates) if place in candidates]
        new = {entry: row for row, entry in enumerate(entries)}
        return SampledTask(
            name=self.name,
            queries=tuple(self.queries[row] for row in asked),
            candidates=tuple(self.candidates[entry] for entry in entries),
            relevant=tuple(
                tuple(new[entry] for entry in self.relevant[row] if entry in new) for row in asked
            ),
            judged=tuple(self.judged[row] for row in asked),
        )


@dataclass(frozen=True)
class Sample:
    """The queries and pools of an analysis, every distinct input once.

    Args:
        tasks: which of them each task has.
        queries: the distinct queries as the embedder sees them.
        candidates: the distinct candidates; those that are relevant to a query come first.
        positives: how many of `candidates` are relevant to a query.
        partial: whether queries or candidates of the data were left out.
    """

    tasks: tuple[SampledTask, ...]
    queries: tuple[Input, ...]
    candidates: tuple[Input, ...]
    positives: int
    partial: bool

    @property
    def query_count(self) -> int:
        """Queries over all tasks; one that two tasks ask counts twice."""
        return sum(len(task.queries) for task in self.tasks)

    @property
    def candidate_count(self) -> int:
        """Distinct candidates that some task's pool holds."""
        return len({place for task in self.tasks for place in task.candidates})

    def only(self, queries: Container[int], candidates: Container[int]) -> Sample:
        """Return the sample with the tasks cut down to these places; the inputs keep theirs."""
        tasks = (task.only(queries, candidates) for task in self.tasks)
        return replace(self, tasks=tuple(task for task in tasks if task.queries), partial=True)


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
    relevant = [found.places_of(task.relevant) for found, task in zip(pools, tasks, strict=True)]
    inputs = [found.inputs() for found in pools]
    # Relevant candidates get the first places.
    places: dict[Input, int] = {}
    for entries, rows in zip(inputs, relevant, strict=True):
        for row in rows:
            for entry in row:
                places.setdefault(entries[entry], len(places))
    positives = len(places)
    asks: dict[Input, int] = {}
    return Sample(
        tasks=tuple(
            SampledTask(
                name=task.name.name,
                queries=tuple(
                    asks.setdefault(query, len(asks)) for query in task.inputs(data.instructions)
                ),
                candidates=tuple(places.setdefault(entry, len(places)) for entry in entries),
                relevant=tuple(map(tuple, rows)),
                judged=tuple(map(len, task.relevant)),
            )
            for task, entries, rows in zip(tasks, inputs, relevant, strict=True)
        ),
        queries=tuple(asks),
        candidates=tuple(places),
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
