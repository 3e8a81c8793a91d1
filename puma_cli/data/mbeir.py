"""A folder in the M-BEIR layout: queries, pools, qrels and instructions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from puma_cli.data.instructions import Instructions, read_instructions
from puma_cli.data.records import MODALITIES, TASK_MODALITIES, Candidate, Query, clean_text
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

    Raises:
        DataError: `root` is missing or has another layout.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        if self.root.is_file():
            raise DataError(
                f"{self.root} is a file.",
                hint="Give the folder of a data set; only puma distill reads tables of pairs.",
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
            DataError: a line is broken, or of another task.
        """

        def parse(row: dict[str, Any]) -> Query:
            query = self._query(row)
            if query.task_id != task.task_id:
                raise ValueError(f"its task_id is {query.task_id} in a file of {task.task_id}")
            return query

        path = self.root / "query" / split / f"mbeir_{task.name}_{split}.jsonl"
        return list(_read_records(path, parse))

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
            for query in _read_records(path, self._query):
                yield TaskName(_train_set(path), query.task_id), query

    def local_pool(self, task: TaskName, split: str) -> list[Candidate]:
        """Return the task's own candidates; a pool per split is preferred where there is one."""
        folder = self.root / "cand_pool" / "local"
        per_split = folder / f"mbeir_{task.name}_{split}_cand_pool.jsonl"
        shared = folder / f"mbeir_{task.name}_cand_pool.jsonl"
        return self._pool(per_split if per_split.is_file() else shared)

    def union_pool(self, split: str) -> list[Candidate]:
        """Return the candidates of all tasks of `split` (`train`, `val` or `test`)."""
        return self._pool(self._union_path(split))

    def stream_union_pool(self, split: str) -> Iterator[Candidate]:
        """Yield the candidates of all tasks of `split`, of which there may be millions.

        Raises:
            DataError: the file is missing, or a line of it is broken.
        """
        return _read_records(self._union_path(split), self._candidate)

    def qrels(self, split: str, task: TaskName) -> dict[str, set[str]]:
        """Return the relevant candidate ids of each query id (relevance above 0).

        Raises:
            DataError: a line has fewer than four columns or no number for the relevance.
        """
        path = self.root / "qrels" / split / f"mbeir_{task.name}_{split}_qrels.txt"
        relevant: dict[str, set[str]] = {}
        for number, line in _lines(path):
            columns = line.split()
            try:
                qid, _, did, relevance = columns[:4]
                if int(relevance) > 0:
                    relevant.setdefault(qid, set()).add(did)
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number} is no qrel: {line.strip()[:80]!r}.",
                    cause="The columns are: qid 0 did relevance task_id.",
                ) from error
        return relevant

    @cached_property
    def instructions(self) -> Instructions:
        """The instructions of this folder's data sets."""
        return read_instructions(self.root / "instructions" / "query_instructions.tsv")

    def _union_path(self, split: str) -> Path:
        return self.root / "cand_pool" / "global" / f"mbeir_union_{split}_cand_pool.jsonl"

    def _pool(self, path: Path) -> list[Candidate]:
        if path not in self._pools:
            pool = list(_read_records(path, self._candidate))
            if not pool:
                raise DataError(f"The candidate pool {path} is empty.")
            self._pools[path] = pool
        return self._pools[path]

    def _query(self, row: dict[str, Any]) -> Query:
        task_id = int(row["task_id"])
        if task_id not in TASK_MODALITIES:
            raise ValueError(f"task_id {task_id} is not one of {sorted(TASK_MODALITIES)}")
        text, image = clean_text(row["query_txt"]), self._image(row["query_img_path"])
        return Query(
            qid=str(row["qid"]),
            text=text,
            image=image,
            modality=_modality(row["query_modality"], text, image),
            task_id=task_id,
            positives=_ids(row.get("pos_cand_list")),
            negatives=_ids(row.get("neg_cand_list")),
        )

    def _candidate(self, row: dict[str, Any]) -> Candidate:
        text, image = clean_text(row["txt"]), self._image(row["img_path"])
        return Candidate(str(row["did"]), text, image, _modality(row["modality"], text, image))

    def _image(self, path: str | None) -> Path | None:
        return self.root / path if path else None


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


def _modality(name: str, text: str | None, image: Path | None) -> str:
    name = "image,text" if name == "text,image" else name
    if name not in MODALITIES:
        raise ValueError(f"modality {name!r} is not one of {MODALITIES}")
    if "image" in name and image is None:
        raise ValueError(f"modality {name!r} without an image path")
    if name == "text" and text is None:
        raise ValueError("modality 'text' without a text")
    return name


def _ids(entries: list[Any] | None) -> tuple[str, ...]:
    # The released files hold strings, the data set's card shows objects with a did.
    return tuple(str(e["did"] if isinstance(e, dict) else e) for e in entries or ())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except FileNotFoundError as error:
        raise DataError(f"The file {path} is missing.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The file {path} cannot be read.", cause=str(error)) from error


def _read_records(path: Path, parse: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    for number, line in _lines(path):
        try:
            yield parse(json.loads(line))
        except KeyError as error:
            raise DataError(f"{path}, line {number} has no key {error}.") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number} is broken: {line.strip()[:80]!r}.", cause=str(error)
            ) from error
