"""A data set without what shows an image that cannot be read."""

from __future__ import annotations

from pathlib import Path

from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import TaskName
from puma_cli.data.records import Candidate, Query
from puma_cli.data.retrieval_data import RetrievalData
from puma_cli.errors import ImageError
from puma_cli.models.looking import look_at


class Remaining:
    """What is left of a data set without broken lines and without images that cannot be read.

    Queries go that cannot be seen, or that lost their last answer.

    Args:
        data: what is left out from; broken lines it leaves out itself.
        images: whether images are looked at, each once.

    Attributes:
        unreadable: the images that cannot be read, with the reason.
        unanswered: how many queries lost their last answer, by task.
        unasked: how many queries the qrels judge that are not there, by task.
    """

    def __init__(self, data: RetrievalData, images: bool) -> None:
        self._data = data
        self._images = images
        self._readable: set[Path] = set()
        self.unreadable: dict[Path, ImageError] = {}
        self.unanswered: dict[TaskName, int] = {}
        self.unasked: dict[TaskName, int] = {}

    @property
    def root(self) -> Path:
        """The folder that the data come from."""
        return self._data.root

    @property
    def instructions(self) -> Instructions:
        """What queries are asked with."""
        return self._data.instructions

    def tasks(self, split: str) -> list[TaskName]:
        """Return the tasks of a split."""
        return self._data.tasks(split)

    def queries(self, split: str, task: TaskName) -> list[Query]:
        """Return the queries of a task that can be seen and answered."""
        seen = [query for query in self._data.queries(split, task) if self._seen(query.image)]
        pool = {candidate.did for candidate in self.local_pool(task, split)}
        answers = self._data.qrels(split, task)
        kept = [query for query in seen if pool & answers.get(query.qid, set())]
        self.unanswered[task] = len(seen) - len(kept)
        return kept

    def qrels(self, split: str, task: TaskName) -> dict[str, set[str]]:
        """Return the ids of the relevant candidates of the queries that are left."""
        judged = self._data.qrels(split, task)
        self.unasked[task] = len(judged.keys() - {q.qid for q in self._data.queries(split, task)})
        qids = {query.qid for query in self.queries(split, task)}
        return {qid: dids for qid, dids in judged.items() if qid in qids}

    def judged_at(self, split: str, task: TaskName, qid: str) -> str:
        """Return where it is said what answers a query."""
        return self._data.judged_at(split, task, qid)

    def named_at(self, image: Path) -> str:
        """Return where an image is named."""
        return self._data.named_at(image)

    def local_pool(self, task: TaskName, split: str) -> list[Candidate]:
        """Return the candidates of a task that can be seen."""
        return [each for each in self._data.local_pool(task, split) if self._seen(each.image)]

    def union_pool(self, split: str) -> list[Candidate]:
        """Return the candidates of all tasks of a split that can be seen."""
        return [each for each in self._data.union_pool(split) if self._seen(each.image)]

    def _seen(self, image: Path | None) -> bool:
        if image is None or not self._images or image in self._readable:
            return True
        if image not in self.unreadable:
            try:
                look_at(image, "decoded")
            except ImageError as error:
                self.unreadable[image] = error
            else:
                self._readable.add(image)
        return image not in self.unreadable
