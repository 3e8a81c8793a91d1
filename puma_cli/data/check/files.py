"""The files of the M-BEIR layout one by one: what they hold, and the faults in each alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from puma_cli.data.check.hashes import Column, Hashes, is_in
from puma_cli.data.check.images import ImageCheck
from puma_cli.data.check.report import Faults, FileCount
from puma_cli.data.instructions import Instructions, read_instructions
from puma_cli.data.lines import numbered_lines
from puma_cli.data.mbeir import TaskName
from puma_cli.data.mbeir_rows import (
    BROKEN,
    broken_line,
    parse_candidate,
    parse_object,
    parse_qrel,
    parse_query,
)
from puma_cli.data.records import TASK_MODALITIES, Candidate, Query, dataset_of
from puma_cli.errors import DataError, ImageError

T = TypeVar("T")


@dataclass
class Rows:
    """What is remembered of a file of candidates or queries: some bytes a line.

    Args:
        ids: their ids.
        contents: of candidates all they hold.
        named: of queries the candidates that they name.
        images: distinct images, sorted.
    """

    ids: Column = field(default_factory=Column)
    contents: Column = field(default_factory=Column)
    named: Column = field(default_factory=Column)
    images: Hashes = field(default_factory=lambda: np.empty(0, dtype=np.uint64))

    @property
    def known(self) -> Hashes:
        """The ids, sorted."""
        return np.sort(self.ids.hashes)


@dataclass
class Judgements:
    """The queries and candidates of qrels, side by side, where something is relevant.

    Args:
        rows: all judgements of the file, others included.
    """

    qids: Column = field(default_factory=Column)
    dids: Column = field(default_factory=Column)
    rows: int = 0


class FileChecks:
    """Reads files, and notes their faults.

    Args:
        root: the data set's folder.
    """

    def __init__(self, root: Path, images: ImageCheck, faults: Faults) -> None:
        self.root, self.images, self.faults = root, images, faults
        self.counts: list[FileCount] = []

    def at(self, path: Path, line: int | None = None) -> str:
        """Return a place in a file, relative to the data set."""
        return path.relative_to(self.root).as_posix() + (f", line {line}" if line else "")

    def instructions(self, path: Path) -> Instructions:
        """Read the table of instructions; an empty one stands for a broken one."""
        if not path.parent.exists():
            return Instructions()
        before = self.faults.total
        try:
            found = read_instructions(path)
        except DataError as error:
            self.faults.add("instructions", self.at(path), str(error))
            found = Instructions()
        self._count(path, len(found.table), before)
        return found

    def candidates(self, path: Path) -> Rows:
        """Read a pool."""
        rows, before = Rows(), self.faults.total
        images = self.images.of_file(self._no_image(path))

        def parse(line: str) -> Candidate:
            return parse_candidate(parse_object(line), self.root)

        for number, candidate in self._parsed(path, parse, "broken"):
            rows.ids.add(candidate.did, number)
            rows.contents.add(_content(candidate), number)
            if candidate.image is not None:
                images.add(candidate.image, number)
        rows.images = images.close()
        self._repeated(path, rows.ids, "did")
        self._count(path, len(rows.ids), before)
        return rows

    def queries(self, path: Path, task: TaskName | None, instructions: Instructions) -> Rows:
        """Read queries: those of a task, or of any where it is None."""
        rows, before = Rows(), self.faults.total
        images = self.images.of_file(self._no_image(path))
        bare: dict[tuple[str, ...], int] = {}

        def parse(line: str) -> Query:
            query = parse_query(parse_object(line), self.root)
            if task is not None and query.task_id != task.task_id:
                raise ValueError(f"its task_id is {query.task_id} in a file of {task.task_id}")
            return query

        for number, query in self._parsed(path, parse, "broken"):
            rows.ids.add(query.qid, number)
            for did in (*query.positives, *query.negatives):
                rows.named.add(did, number)
            if query.image is not None:
                images.add(query.image, number)
            if instructions.table and instructions.pick(query) is None:
                bare.setdefault((dataset_of(query.qid), *TASK_MODALITIES[query.task_id]), number)
        for key, line in bare.items():
            problem = f"There is none for data set {key[0]!r}, {key[1]} to {key[2]}."
            self.faults.add("no instruction", self.at(path, line), problem)
        rows.images = images.close()
        self._repeated(path, rows.ids, "qid")
        self._count(path, len(rows.ids), before)
        return rows

    def qrels(self, path: Path, task_id: int | None, queries: Rows) -> Judgements:
        """Read the judgements of some queries: those of a task, or of any where it is None."""
        found, before = Judgements(), self.faults.total
        pairs, judged = Column(), Column()
        for number, qrel in self._parsed(path, lambda line: parse_qrel(line, task_id), "no qrel"):
            found.rows += 1
            pairs.add(f"{qrel.qid} {qrel.did}", number)
            judged.add(f"{qrel.qid} {qrel.did} {qrel.relevance}", number)
            if qrel.relevance > 0:
                found.qids.add(qrel.qid, number)
                found.dids.add(qrel.did, number)
        for line in found.qids.lines[~is_in(found.qids.hashes, queries.known)].tolist():
            problem = "No query of this id is in the file of the queries."
            self.faults.add("unknown query", self.at(path, line), problem)
        same = judged.repeated()
        for line, first in pairs.repeated().items():
            said = "the same" if line in same else "something else"
            self.faults.add("repeated qrel", self.at(path, line), f"Line {first} says {said}.")
        self._count(path, found.rows, before)
        return found

    def _parsed(
        self, path: Path, parse: Callable[[str], T], otherwise: str
    ) -> Iterator[tuple[int, T]]:
        def meet(number: int, error: DataError) -> None:
            said = str(error).removeprefix(f"{path}, line {number} ")
            self.faults.add("broken line", self.at(path, number), said)

        try:
            for number, line in numbered_lines(path, meet):
                if not line.strip():
                    continue
                try:
                    record = parse(line)
                except BROKEN as error:
                    meet(number, broken_line(path, number, line, otherwise, error))
                else:
                    yield number, record
        except DataError as error:
            self.faults.add("unreadable file", self.at(path), str(error))

    def _no_image(self, path: Path) -> Callable[[int, ImageError], None]:
        def tell(line: int, error: ImageError) -> None:
            kind = "missing image" if "is missing" in error.problem else "broken image"
            self.faults.add(kind, self.at(path, line), str(error))

        return tell

    def _repeated(self, path: Path, ids: Column, name: str) -> None:
        for line, first in ids.repeated().items():
            problem = f"Its {name} stands in line {first} too."
            self.faults.add("repeated id", self.at(path, line), problem)

    def _count(self, path: Path, rows: int, before: int) -> None:
        if not rows and self.faults.total == before:
            self.faults.add("empty file", self.at(path), "It holds nothing.")
        self.counts.append(FileCount(self.at(path), rows, self.faults.total - before))


def _content(candidate: Candidate) -> str:
    return repr((candidate.did, candidate.text, str(candidate.image), candidate.modality))
