"""A folder in the M-BEIR layout: queries, pools, qrels and instructions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from puma_cli.data.instructions import Instructions, read_instructions
from puma_cli.data.lines import numbered_lines
from puma_cli.data.mbeir_rows import (
    BROKEN,
    Qrel,
    broken_line,
    parse_candidate,
    parse_object,
    parse_qrel,
    parse_query,
)
from puma_cli.data.records import TASK_MODALITIES, Candidate, Query
from puma_cli.errors import DataError

T = TypeVar("T")
SPLITS = ("val", "test")


@dataclass(frozen=True, order=True)
class TaskName:
    """One row of the benchmark: a data set and one of its tasks."""

    dataset: str
    task_id: int

    @property
    def name(self) -> str:
        """The row's name, such as `scenes_task0`."""
        return f"{self.dataset}_task{self.task_id}"


class MbeirFolder:
    """Reads a data set in the M-BEIR layout; image paths in it are relative to `root`.

    Args:
        skip_broken: leave broken lines out and count them in `skipped`, by the name of their file,
            instead of refusing them.

    Raises:
        DataError: `root` is missing or has another layout.
    """

    def __init__(self, root: Path | str, skip_broken: bool = False) -> None:
        self.root = Path(root)
        self.skipped: Counter[str] = Counter()
        self._skip_broken = skip_broken
        if self.root.is_file():
            raise DataError(
                f"{self.root} is a file.",
                hint="Give the folder of a data set; tables are for puma distill and puma eval.",
            )
        if not self.root.is_dir():
            raise DataError(
                f"The data folder {self.root} does not exist.",
                hint=f"puma data scenes --output-dir {self.root} makes one to try.",
            )
        if not (self.root / "query").is_dir() or not (self.root / "cand_pool").is_dir():
            raise DataError(
                f"{self.root} is not in the M-BEIR layout.",
                cause="It needs the folders query/ and cand_pool/.",
                hint="Give the folder that holds them.",
            )
        self._pools: dict[Path, list[Candidate]] = {}

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.resolve().name

    def tasks(self, split: str) -> list[TaskName]:
        """Return the tasks that have queries in `split`, by number, then by data set.

        Raises:
            DataError: the split holds none, or one of an unknown number.
        """
        pattern = re.compile(rf"mbeir_(.+)_task(\d+)_{re.escape(split)}\.jsonl")
        found = [
            TaskName(match[1], int(match[2]))
            for path in (self.root / "query" / split).glob("*.jsonl")
            if (match := pattern.fullmatch(path.name))
        ]
        if not found:
            raise DataError(
                f"{self.root} has no queries in the split {split!r}.",
                cause=f"Expected query/{split}/mbeir_DATASET_taskN_{split}.jsonl.",
            )
        odd = [task.name for task in found if task.task_id not in TASK_MODALITIES]
        if odd:
            raise DataError(
                f"{self.root} has queries of the task {min(odd)} in the split {split!r}.",
                cause=f"The tasks are numbered {', '.join(map(str, TASK_MODALITIES))}.",
            )
        return sorted(found, key=lambda task: (task.task_id, task.dataset))

    def queries(self, split: str, task: TaskName) -> list[Query]:
        """Return the queries of one task, in the order of the file.

        Raises:
            DataError: a line is broken, of another task, or repeats an id; or there is none.
        """
        seen: set[str] = set()

        def parse(row: dict[str, Any]) -> Query:
            query = parse_query(row, self.root)
            if query.task_id != task.task_id:
                raise ValueError(f"its task_id is {query.task_id} in a file of {task.task_id}")
            if query.qid in seen:
                raise ValueError(f"the qid {query.qid} stands in an earlier line too")
            seen.add(query.qid)
            return query

        path = self.query_file(split, task)
        found = list(self._records(path, parse))
        if not found:
            raise DataError(f"{path} holds no queries.")
        return found

    def tasks_without_queries(self, split: str) -> list[TaskName]:
        """Return the tasks whose qrels are there, but not their queries."""
        pattern = re.compile(rf"mbeir_(.+)_task(\d+)_{re.escape(split)}_qrels\.txt")
        judged = [
            TaskName(match[1], int(match[2]))
            for path in sorted((self.root / "qrels" / split).glob("*.txt"))
            if (match := pattern.fullmatch(path.name))
        ]
        return [task for task in judged if not self.query_file(split, task).exists()]

    def query_file(self, split: str, task: TaskName) -> Path:
        """Return the file that holds the queries of a task."""
        return self.root / "query" / split / f"mbeir_{task.name}_{split}.jsonl"

    def qrel_file(self, split: str, task: TaskName) -> Path:
        """Return the file that says which candidates answer a task's queries."""
        return self.root / "qrels" / split / f"mbeir_{task.name}_{split}_qrels.txt"

    def local_file(self, split: str, task: TaskName) -> Path:
        """Return the file of a task's own candidates; one for the split alone is preferred."""
        folder = self.root / "cand_pool" / "local"
        per_split = folder / f"mbeir_{task.name}_{split}_cand_pool.jsonl"
        shared = folder / f"mbeir_{task.name}_cand_pool.jsonl"
        return per_split if per_split.is_file() else shared

    def union_file(self, split: str) -> Path:
        """Return the file of the candidates of all tasks of `split`."""
        return self.root / "cand_pool" / "global" / f"mbeir_union_{split}_cand_pool.jsonl"

    @property
    def has_training(self) -> bool:
        """Whether there are files of training queries."""
        return any((self.root / "query" / "train").glob("*.jsonl"))

    def train_files(self) -> list[Path]:
        """Return the files of the training queries by name, unread.

        Raises:
            DataError: the folder has none.
        """
        files = sorted((self.root / "query" / "train").glob("*.jsonl"))
        if not files:
            raise DataError(
                f"{self.root} has no training queries.",
                cause="Expected query/train/mbeir_DATASET_train.jsonl.",
            )
        return files

    def train_queries(self, pattern: str = "*") -> list[Query]:
        """Return the training queries of all data sets, in the order of files and lines.

        Args:
            pattern: comma-separated globs over task names such as `scenes_task0`.

        Raises:
            DataError: the folder has none, or none of such a task.
        """
        return [query for _, query in self.named_training(pattern)]

    def named_training(self, pattern: str = "*") -> list[tuple[TaskName, Query]]:
        """Return the training queries with their tasks; see `train_queries`."""
        named = list(self.stream_training())
        chosen = set(select_tasks(sorted({task for task, _ in named}), pattern))
        return [(task, query) for task, query in named if task in chosen]

    def stream_training(self) -> Iterator[tuple[TaskName, Query]]:
        """Yield the training queries with their tasks, in the order of files and lines.

        Raises:
            DataError: the folder has none, or a line is broken.
        """
        for path in self.train_files():
            for query in self._records(path, lambda row: parse_query(row, self.root)):
                yield TaskName(_train_set(path), query.task_id), query

    def local_pool(self, task: TaskName, split: str) -> list[Candidate]:
        """Return the task's own candidates; a pool per split is preferred where there is one."""
        return self._pool(self.local_file(split, task))

    def union_pool(self, split: str) -> list[Candidate]:
        """Return the candidates of all tasks of `split` (`train`, `val` or `test`)."""
        return self._pool(self.union_file(split))

    def stream_union_pool(self, split: str) -> Iterator[Candidate]:
        """Yield the candidates of all tasks of `split`, of which there may be millions.

        Raises:
            DataError: the file is missing, or a line of it is broken.
        """
        return self._records(self.union_file(split), self._candidate)

    def qrels(self, split: str, task: TaskName) -> dict[str, set[str]]:
        """Return the relevant candidate ids of each query id (relevance above 0).

        Raises:
            DataError: a line has other columns, is of another task, or contradicts another.
        """
        relevant: dict[str, set[str]] = {}
        judged: dict[tuple[str, str], int] = {}

        def parse(line: str) -> Qrel:
            qrel = parse_qrel(line, task.task_id)
            if judged.setdefault((qrel.qid, qrel.did), qrel.relevance) != qrel.relevance:
                raise ValueError("an earlier line judges the same pair otherwise")
            return qrel

        for qrel in self._parsed(self.qrel_file(split, task), parse, "no qrel"):
            if qrel.relevance > 0:
                relevant.setdefault(qrel.qid, set()).add(qrel.did)
        return relevant

    @cached_property
    def instructions(self) -> Instructions:
        """The instructions of this folder's data sets."""
        return read_instructions(self.root / "instructions" / "query_instructions.tsv")

    def judged_at(self, split: str, task: TaskName, qid: str) -> str:
        """Return where the qrels first name a query, as `FILE, line N`, or where they should."""
        path = self.qrel_file(split, task)
        for number, line in numbered_lines(path):
            if line.split()[:1] == [qid]:
                return f"{path}, line {number}"
        return str(path)

    def named_at(self, image: Path) -> str:
        """Return the first line that names an image, as `FILE, line N`; empty if none does."""
        name = image.relative_to(self.root).as_posix() if image.is_relative_to(self.root) else ""
        told = json.dumps(name), json.dumps(name, ensure_ascii=False)
        for path in sorted([*self.root.glob("query/*/*.jsonl"), *self.root.glob("cand_pool/*/*")]):
            for number, line in numbered_lines(path) if name else ():
                if any(each in line for each in told):
                    return f"{path}, line {number}"
        return ""

    def _pool(self, path: Path) -> list[Candidate]:
        if path not in self._pools:
            first: dict[str, Candidate] = {}

            def parse(row: dict[str, Any]) -> Candidate:
                candidate = self._candidate(row)
                # A line that comes twice does no harm; two contents under one id do.
                if first.setdefault(candidate.did, candidate) != candidate:
                    raise ValueError(f"the did {candidate.did} has another content further up")
                return candidate

            for _ in self._records(path, parse):
                pass
            if not first:
                raise DataError(f"The candidate pool {path} is empty.")
            self._pools[path] = list(first.values())
        return self._pools[path]

    def _candidate(self, row: dict[str, Any]) -> Candidate:
        return parse_candidate(row, self.root)

    def _records(self, path: Path, parse: Callable[[dict[str, Any]], T]) -> Iterator[T]:
        return self._parsed(path, lambda line: parse(parse_object(line)), "broken")

    def _parsed(self, path: Path, parse: Callable[[str], T], otherwise: str) -> Iterator[T]:
        def meet(number: int, error: DataError) -> None:
            if not self._skip_broken:
                raise error from error.__cause__
            self.skipped[path.name] += 1

        for number, line in numbered_lines(path, meet):
            if not line.strip():
                continue
            try:
                record = parse(line)
            except BROKEN as error:
                meet(number, broken_line(path, number, line, otherwise, error))
            else:
                yield record


def is_asked_for(task: TaskName, pattern: str) -> bool:
    """Tell whether a task's name, or its data set's, matches one of the globs in `pattern`."""
    globs = [glob.strip() for glob in pattern.split(",")]
    return any(fnmatchcase(name, glob) for name in (task.name, task.dataset) for glob in globs)


def select_tasks(tasks: list[TaskName], pattern: str) -> list[TaskName]:
    """Return the tasks whose name, or whose data set's, matches a comma-separated glob.

    Raises:
        DataError: none does.
    """
    chosen = [task for task in tasks if is_asked_for(task, pattern)]
    if not chosen:
        names = ", ".join(task.name for task in tasks)
        raise DataError(f"No task matches {pattern!r}.", hint=f"The tasks are: {names}.")
    return chosen


def _train_set(path: Path) -> str:
    return path.stem.removeprefix("mbeir_").removesuffix("_train")
