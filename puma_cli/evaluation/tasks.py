"""What a data set asks: its tasks, their queries and pools, and hashes that tell them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import MbeirFolder, TaskName, select_tasks
from puma_cli.data.records import Candidate, Query
from puma_cli.data.retrieval_data import RetrievalData
from puma_cli.errors import ConfigError, DataError
from puma_cli.models.inputs import Input

T = TypeVar("T")

# M-BEIR scores its fashion sets at 10 and every other set at 5.
_OWN_K = {"fashion200k": 10, "fashioniq": 10}


class TaskSummary(NamedTuple):
    """A task with the numbers of its queries and of the candidates in its local pool."""

    name: str
    queries: int
    candidates: int


@dataclass(frozen=True)
class Task:
    """The queries of one task that are to be scored.

    Args:
        available: queries that the data set holds, of which `queries` may be a part.
        relevant: for each query the ids of its positives, sorted.
        k: the data set's own K.
    """

    name: TaskName
    queries: tuple[Query, ...]
    available: int
    relevant: tuple[tuple[str, ...], ...]
    k: int
    digest: str

    def inputs(
        self, instructions: Instructions, mode: str = "first", seed: int | str = 0
    ) -> list[Input]:
        """Return what the embedder sees of each query.

        Args:
            mode: `first`, or `seeded` for prompts drawn from `seed` and the qid.
        """
        return [query.to_input(instructions.pick(query, mode, seed)) for query in self.queries]


@dataclass(frozen=True)
class Pool:
    """Candidates that queries are searched in, each id once."""

    name: str
    candidates: tuple[Candidate, ...]
    digest: str
    index: Mapping[str, int] = field(repr=False)

    def inputs(self) -> list[Input]:
        """Return what the embedder sees of each candidate."""
        return [candidate.to_input() for candidate in self.candidates]

    def places_of(self, relevant: Iterable[Iterable[str]]) -> list[list[int]]:
        """Return for each query the places of its relevant ids that the pool holds."""
        return [[self.index[did] for did in dids if did in self.index] for dids in relevant]


def list_tasks(data: Path | str, split: str = "test", tasks: str = "*") -> list[TaskSummary]:
    """Return the tasks of a split of a folder in the M-BEIR layout, with their sizes.

    Raises:
        DataError: the folder, the split or a file of it is missing or broken.
    """
    return summarise(MbeirFolder(data), split, tasks)


def summarise(folder: RetrievalData, split: str, tasks: str = "*") -> list[TaskSummary]:
    """Return the tasks of a split with their numbers of queries and candidates.

    Raises:
        DataError: the split or a file of it is missing or broken.
    """
    return [
        TaskSummary(
            task.name, len(folder.queries(split, task)), len(folder.local_pool(task, split))
        )
        for task in select_tasks(folder.tasks(split), tasks)
    ]


def read_tasks(
    folder: RetrievalData, split: str, pattern: str = "*", limit: int | None = None, k: int = 5
) -> list[Task]:
    """Read the tasks of `split` whose names match a glob.

    Args:
        limit: at most this many queries of each task (>= 1), spread evenly over its file.
        k: the K of data sets that M-BEIR does not give one (>= 1).

    Raises:
        ConfigError: `limit` or `k` is below 1.
        DataError: a file is missing or broken, or a task has no queries.
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, not {k}.")
    tasks = []
    for name in select_tasks(folder.tasks(split), pattern):
        queries = folder.queries(split, name)
        if not queries:
            raise DataError(f"The task {name.name} has no queries in the split {split!r}.")
        chosen = tuple(evenly(queries, limit))
        judged = folder.qrels(split, name)
        _refuse_unknown(judged.keys() - {query.qid for query in queries}, folder, split, name)
        relevant = tuple(tuple(sorted(judged.get(query.qid, ()))) for query in chosen)
        digest = _query_digest(chosen, relevant, folder.root)
        own_k = _OWN_K.get(name.dataset, k)
        tasks.append(Task(name, chosen, len(queries), relevant, own_k, digest))
    return tasks


def _refuse_unknown(
    qids: Collection[str], folder: RetrievalData, split: str, name: TaskName
) -> None:
    """Raise DataError if the qrels judge queries that the data set does not have."""
    if qids:
        qid = min(qids)
        raise DataError(
            f"The qrels of {name.name} judge {len(qids)} queries that it does not have, "
            f"such as {qid!r}.",
            cause=f"{folder.judged_at(split, name, qid)}.",
            hint="Take these lines out, or bring the file of the queries back.",
        )


def part_of(task: Task, places: Sequence[int], root: Path) -> Task:
    """Return the task with the queries at `places` alone; `root` is the data set's folder."""
    queries = tuple(task.queries[place] for place in places)
    relevant = tuple(task.relevant[place] for place in places)
    digest = _query_digest(queries, relevant, root)
    return replace(task, queries=queries, relevant=relevant, digest=digest)


def make_pool(name: str, candidates: Iterable[Candidate], root: Path) -> Pool:
    """Make a pool of `candidates`; a repeated id keeps its first entry.

    Raises:
        DataError: there are no candidates.
    """
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.did, candidate)
    if not first:
        raise DataError(
            f"The candidate pool of {name} is empty.",
            hint="Check the files below cand_pool/ of the data set.",
        )
    kept = tuple(first.values())
    digest = _digest((c.did, c.text, _relative(c.image, root)) for c in kept)
    return Pool(name, kept, digest, {did: place for place, did in enumerate(first)})


def evenly(items: Sequence[T], limit: int | None) -> Sequence[T]:
    """Return at most `limit` items spread evenly over `items`, in their order.

    Raises:
        ConfigError: the limit is below 1.
    """
    if limit is None or limit >= len(items):
        return items
    if limit < 1:
        raise ConfigError(f"The limit must be at least 1, not {limit}.")
    # The head of a file may hold one kind of query only.
    return [items[place * len(items) // limit] for place in range(limit)]


def _query_digest(queries: Sequence[Query], relevant: Sequence[tuple[str, ...]], root: Path) -> str:
    return _digest(
        (query.qid, query.text, _relative(query.image, root), *positives)
        for query, positives in zip(queries, relevant, strict=True)
    )


def _relative(path: Path | None, root: Path) -> str | None:
    if path is None:
        return None
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _digest(rows: Iterable[Iterable[str | None]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(tuple(row)).encode())
    return f"sha256:{digest.hexdigest()}"
