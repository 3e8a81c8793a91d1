"""Pairs as queries and candidates: equal contents are one candidate, and answers are shared."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from puma_cli.data.columns import Shown
from puma_cli.data.mbeir import TaskName
from puma_cli.data.pairs.rows import Pair
from puma_cli.data.records import TASK_MODALITIES, Candidate, Query

_TASKS = {modalities: number for number, modalities in TASK_MODALITIES.items()}


class Collection:
    """Takes in pairs one by one; a million take about a gigabyte, less than most models.

    Args:
        datasets: the names of the data sets that pairs will be added of.
        prompt: instruction of pairs that bring none.
    """

    def __init__(self, datasets: Iterable[str], prompt: str | None = None) -> None:
        self.queries: list[Query] = []
        self.candidates: list[Candidate] = []
        # For each query the number of its content: rows that ask the same share it.
        self.contents = array("L")
        self._numbers = {name: number for number, name in enumerate(datasets)}
        self._names = list(self._numbers)
        self._prompt = prompt
        self._dids: dict[Shown, str] = {}
        self._asked: dict[Shown, int] = {}
        # Many rows ask for the same thing: one text in memory serves them all.
        self._instructions: dict[str, str] = {}

    def add(self, pair: Pair, task: TaskName) -> None:
        """Add a pair of a task."""
        number = self._numbers[task.dataset]
        self.contents.append(self._asked.setdefault(pair.query, len(self._asked)))
        asked = pair.instruction or self._prompt
        text, image = pair.query
        self.queries.append(
            Query(
                qid=f"{number}:{len(self.queries)}",
                text=text,
                image=image,
                modality=_modality(pair.query),
                task_id=task.task_id,
                positives=tuple(self._did(shown, number) for shown in pair.positives),
                negatives=tuple(self._did(shown, number) for shown in pair.negatives),
                instruction=self._instructions.setdefault(asked, asked) if asked else None,
            )
        )

    def close(self) -> None:
        """Let queries of the same content and instruction know one another's positives."""
        rows = np.bincount(np.asarray(self.contents))
        repeated = [place for place, content in enumerate(self.contents) if rows[content] > 1]
        known: dict[tuple[int, str | None], dict[str, None]] = defaultdict(dict)
        for place in repeated:
            query = self.queries[place]
            known[self.contents[place], query.instruction] |= dict.fromkeys(query.positives)
        shared = {asked: tuple(dids) for asked, dids in known.items()}
        for place in repeated:
            query = self.queries[place]
            dids = shared[self.contents[place], query.instruction]
            if len(dids) > len(query.positives):
                self.queries[place] = replace(query, known_positives=dids)
        self._asked.clear()
        self._dids.clear()

    def task_name(self, query: Query) -> TaskName:
        """Return the task that a query of this collection belongs to."""
        return TaskName(self._names[int(query.qid.partition(":")[0])], query.task_id)

    def candidate(self, did: str) -> Candidate:
        """Return the candidate of an id."""
        return self.candidates[int(did.partition(":")[2])]

    def _did(self, shown: Shown, number: int) -> str:
        did = self._dids.get(shown)
        if did is None:
            did = self._dids[shown] = f"{number}:{len(self.candidates)}"
            self.candidates.append(Candidate(did, *shown, _modality(shown)))
        return did


def task_of(pair: Pair) -> int:
    """Return M-BEIR's number for the modalities of a pair; its first positive decides."""
    return _TASKS[_modality(pair.query), _modality(pair.positives[0])]


def _modality(shown: Shown) -> str:
    text, image = shown
    if image is None:
        return "text"
    return "image" if text is None else "image,text"
