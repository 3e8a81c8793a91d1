"""What a check of a data set found: counts and faults."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """One thing that is wrong.

    Args:
        kind: a short name that faults are counted under.
        where: the file, with the line where there is one.
        problem: what is wrong there.
    """

    kind: str
    where: str
    problem: str


@dataclass
class Faults:
    """Takes in faults: the first are kept, all are counted.

    Args:
        limit: how many are kept (>= 0).
    """

    limit: int
    kept: list[Fault] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Number of all faults."""
        return sum(self.kinds.values())

    def add(self, kind: str, where: str, problem: str) -> None:
        """Take in one fault."""
        self.kinds[kind] += 1
        if len(self.kept) < self.limit:
            self.kept.append(Fault(kind, where, " ".join(problem.split())))


class FileCount(NamedTuple):
    """A file, relative to the data set, with its rows and its faults."""

    file: str
    rows: int
    faults: int


class TaskCount(NamedTuple):
    """A task of a split: queries, its own candidates, judgements, and distinct images of both."""

    split: str
    task: str
    queries: int
    candidates: int
    qrels: int
    images: int


@dataclass(frozen=True)
class CheckReport:
    """The outcome of a check.

    Args:
        root: the data set as the user named it.
        layout: `mbeir`, `mmeb` or `pairs`.
        files: every file that was read.
        tasks: every task of every split.
        images: distinct image files.
        looked: how images were looked at: `decoded`, `headers`, or `not`.
        faults: the first faults; `kinds` counts all of them.
    """

    root: str
    layout: str
    files: tuple[FileCount, ...]
    tasks: tuple[TaskCount, ...]
    images: int
    looked: str
    faults: tuple[Fault, ...]
    kinds: dict[str, int]

    @property
    def total(self) -> int:
        """Number of all faults."""
        return sum(self.kinds.values())

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON."""
        return {
            "data": self.root,
            "layout": self.layout,
            "files": [each._asdict() for each in self.files],
            "tasks": [each._asdict() for each in self.tasks],
            "images": self.images,
            "images_looked_at": self.looked,
            "faults": self.total,
            "kinds": self.kinds,
            "first_faults": [each._asdict() for each in self.faults],
        }
