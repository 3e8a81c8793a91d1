"""Which training queries meet in a batch: a pure function of the seed and the step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from puma_cli.data.mbeir import TaskName
from puma_cli.data.mixture import Mixture
from puma_cli.data.records import Query, dataset_of
from puma_cli.errors import ConfigError, DataError

GROUPINGS = ("mixed", "query", "task")


class BatchOrder:
    """Draws the batches of every epoch; the same seed draws the same, so a resume needs no state.

    Args:
        queries: the training queries.
        size: queries in a batch (>= 2); what is left over at an epoch's end is dropped.
        grouping: `mixed`, `query` or `task` (see `BatchSettings`).
        neighbours: let queries follow the one whose hard negatives are their positives.
        seed: seed of all draws.
        tasks: the task of each query, with `mixture`.
        mixture: how often each task is shown; by default every query once an epoch.

    Raises:
        ConfigError: the grouping is unknown or the size below 2.
        DataError: no batch can be filled.
    """

    def __init__(
        self,
        queries: Sequence[Query],
        size: int,
        grouping: str,
        seed: int,
        neighbours: bool = False,
        tasks: Sequence[TaskName] = (),
        mixture: Mixture | None = None,
    ) -> None:
        if grouping not in GROUPINGS:
            raise ConfigError(
                f"{grouping!r} is no way to group batches.", hint=f"Use {', '.join(GROUPINGS)}."
            )
        if size < 2:
            raise ConfigError(
                f"batch.size is {size}.", cause="In-batch negatives need at least 2 queries."
            )
        self._queries = queries
        self._size = size
        self._grouping = grouping
        self._seed = seed
        self._groups = self._group()
        self._mixture = mixture
        self._by_task = [_by_task(group, tasks) for group in self._groups] if mixture else []
        counts = [len(group) for group in self._groups]
        if mixture is not None:
            counts = [sum(map(mixture.draws, tasks)) for tasks in self._by_task]
        self.steps_per_epoch = sum(count // size for count in counts)
        if self.steps_per_epoch == 0:
            raise DataError(
                f"{len(queries)} training queries do not fill one batch of {size}.",
                hint="Lower it with --set batch.size=N, or choose other tasks.",
            )
        self._epoch: tuple[int, list[list[int]]] = (-1, [])
        self._neighbours = neighbours
        self._by_positive = self._positive_index() if neighbours else {}

    def batch(self, step: int) -> tuple[int, list[int]]:
        """Return the epoch and the query indices of batch `step` (>= 0)."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._draw(epoch))
        return epoch, self._epoch[1][within]

    def _group(self) -> list[list[int]]:
        keys: dict[str, Callable[[Query], Hashable]] = {
            "mixed": lambda query: None,
            "query": lambda query: query.modality,
            "task": lambda query: (dataset_of(query.qid), query.task_id),
        }
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for index, query in enumerate(self._queries):
            groups[keys[self._grouping](query)].append(index)
        return list(groups.values())

    def _draw(self, epoch: int) -> list[list[int]]:
        random = np.random.default_rng((self._seed, epoch))
        batches = []
        for number, group in enumerate(self._groups):
            if self._mixture is not None:
                order = self._mixture.order(self._by_task[number], random)
            else:
                order = [group[i] for i in random.permutation(len(group))]
            if self._neighbours:
                order = self._with_neighbours(order, random)
            stops = range(self._size, len(order) + 1, self._size)
            batches += [order[stop - self._size : stop] for stop in stops]
        return [batches[i] for i in random.permutation(len(batches))]

    def _with_neighbours(self, order: list[int], random: np.random.Generator) -> list[int]:
        """Reorder so that queries follow the one whose hard negatives are their positives."""
        left, out = set(order), []
        for index in order:
            if index not in left:
                continue
            left.remove(index)
            out.append(index)
            near = [
                other
                for did in self._queries[index].negatives
                for other in self._by_positive.get((self._queries[index].task_id, did), ())
                if other in left
            ]
            near = list(dict.fromkeys(near))
            for other in (near[i] for i in random.permutation(len(near))):
                left.remove(other)
                out.append(other)
        return out

    def _positive_index(self) -> dict[tuple[int, str], list[int]]:
        index: dict[tuple[int, str], list[int]] = defaultdict(list)
        for position, query in enumerate(self._queries):
            for did in query.positives:
                index[query.task_id, did].append(position)
        return index


def _by_task(group: Sequence[int], tasks: Sequence[TaskName]) -> dict[TaskName, list[int]]:
    found: dict[TaskName, list[int]] = defaultdict(list)
    for index in group:
        found[tasks[index]].append(index)
    return dict(found)
