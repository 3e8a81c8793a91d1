"""What it takes to score a model: tasks with queries, their positives and pools."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import TaskName
from puma_cli.data.records import Candidate, Query


class RetrievalData(Protocol):
    """Queries to score; a folder in the M-BEIR layout is one, held-out pairs are another."""

    @property
    def root(self) -> Path:
        """The folder that the data come from."""
        ...

    @property
    def instructions(self) -> Instructions:
        """What queries are asked with."""
        ...

    def tasks(self, split: str) -> list[TaskName]:
        """Return the tasks of a split."""
        ...

    def queries(self, split: str, task: TaskName) -> list[Query]:
        """Return the queries of a task."""
        ...

    def qrels(self, split: str, task: TaskName) -> dict[str, set[str]]:
        """Return the ids of the relevant candidates by query id."""
        ...

    def judged_at(self, split: str, task: TaskName, qid: str) -> str:
        """Return where it is said what answers a query, for errors; empty if nowhere."""
        ...

    def named_at(self, image: Path) -> str:
        """Return where an image is named, for errors; empty if nowhere."""
        ...

    def local_pool(self, task: TaskName, split: str) -> list[Candidate]:
        """Return the candidates of a task."""
        ...

    def union_pool(self, split: str) -> list[Candidate]:
        """Return the candidates of all tasks of a split."""
        ...
