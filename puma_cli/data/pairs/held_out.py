"""Queries that are kept from training, and pools of candidates to find their positives in."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import TaskName
from puma_cli.data.pairs.collection import Collection
from puma_cli.data.records import Candidate, Query

# Of the distinct queries of a task, one in so many is held out at most.
_ONE_IN = 10


@dataclass(frozen=True)
class HeldOut:
    """Held-out queries by task, as `puma_cli.data.retrieval_data.RetrievalData` has them.

    Args:
        root: the folder of the data.
        pools: candidates of each task, the positives of its queries among them.
    """

    root: Path
    asked: dict[TaskName, list[Query]]
    pools: dict[TaskName, list[Candidate]]
    instructions: Instructions

    def tasks(self, split: str) -> list[TaskName]:
        """Return the tasks with held-out queries; there is one split of them."""
        return list(self.asked)

    def queries(self, split: str, task: TaskName) -> list[Query]:
        """Return the held-out queries of a task."""
        return self.asked[task]

    def qrels(self, split: str, task: TaskName) -> dict[str, set[str]]:
        """Return the ids of all known positives of each query."""
        return {query.qid: set(query.relevant) for query in self.asked[task]}

    def judged_at(self, split: str, task: TaskName, qid: str) -> str:
        """Return nothing: a row of the table says both."""
        return ""

    def named_at(self, image: Path) -> str:
        """Return nothing: every image was looked for when its row was read."""
        return ""

    def local_pool(self, task: TaskName, split: str) -> list[Candidate]:
        """Return the candidates that the task's queries are searched in."""
        return self.pools[task]

    def union_pool(self, split: str) -> list[Candidate]:
        """Return the candidates of all tasks, each once."""
        return list({c.did: c for pool in self.pools.values() for c in pool}.values())


def hold_out(
    collection: Collection, root: Path, count: int, pool: int, seed: int
) -> tuple[list[Query], HeldOut | None]:
    """Divide the queries: those to train on, and a seeded draw of each task's distinct ones.

    A query whose text and image are those of a held-out one is not trained on, whatever its task,
    instruction and positive.

    Args:
        count: queries of each task to hold out (>= 0), at most a tenth of its distinct ones.
        pool: candidates of each task's pool at least, as far as it has so many.
    """
    rows: dict[TaskName, list[int]] = defaultdict(list)
    for place, query in enumerate(collection.queries):
        rows[collection.task_name(query)].append(place)
    taken: set[int] = set()
    asked: dict[TaskName, list[Query]] = {}
    for number, task in enumerate(sorted(rows)):
        first: dict[int, int] = {}
        for place in rows[task]:
            first.setdefault(collection.contents[place], place)
        free = [content for content in first if content not in taken]
        wanted = min(count, len(first) // _ONE_IN, len(free))
        if not wanted:
            continue
        drawn = np.random.default_rng((seed, number)).choice(len(free), wanted, replace=False)
        chosen = [free[each] for each in sorted(drawn)]
        taken.update(chosen)
        asked[task] = [collection.queries[first[content]] for content in chosen]
    training = [
        query
        for query, content in zip(collection.queries, collection.contents, strict=True)
        if content not in taken
    ]
    if not asked:
        return training, None
    pools = {
        task: _pool(collection, queries, rows[task], pool, (seed, number))
        for number, (task, queries) in enumerate(asked.items())
    }
    return training, HeldOut(root, asked, pools, Instructions())


def _pool(
    collection: Collection, asked: list[Query], rows: list[int], size: int, seed: tuple[int, int]
) -> list[Candidate]:
    """Return what the queries name, filled up with positives of other queries of the task."""
    dids = dict.fromkeys(did for query in asked for did in (*query.relevant, *query.negatives))
    others = dict.fromkeys(did for row in rows for did in collection.queries[row].positives)
    left = [did for did in others if did not in dids]
    drawn = np.random.default_rng(seed).permutation(len(left))[: max(0, size - len(dids))]
    return [collection.candidate(did) for did in (*dids, *(left[each] for each in sorted(drawn)))]
