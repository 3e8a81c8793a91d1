"""Searching the pools of all tasks at every depth, a batch of candidates at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puma_cli.processes import Processes
from puma_cli.profiling.retrieval.depth_ranks import DepthRanks, wanted_scores
from puma_cli.profiling.retrieval.readings import Reading
from puma_cli.profiling.sampling import Sample


@dataclass(frozen=True, eq=False)
class Match:
    """The part of a batch that one task's pool holds.

    Args:
        columns: places in the batch, once for each entry of the pool.
        rows: queries of the pairs that belong together.
        places: places in `columns` of these pairs.
    """

    columns: list[int]
    rows: Tensor
    places: Tensor


class Matching:
    """Which candidates compete for which queries, batch by batch."""

    def __init__(self, sample: Sample) -> None:
        # The entries of each task's pool by distinct candidate, and its queries by relevant entry.
        self._tasks: list[tuple[dict[int, list[int]], dict[int, list[int]]]] = []
        for task in sample.tasks:
            entries: dict[int, list[int]] = defaultdict(list)
            for entry, candidate in enumerate(task.candidates):
                entries[candidate].append(entry)
            askers: dict[int, list[int]] = defaultdict(list)
            for query, own in enumerate(task.relevant):
                for entry in own:
                    askers[entry].append(query)
            self._tasks.append((entries, askers))

    def match(self, chosen: Sequence[int]) -> list[Match]:
        """Return for each task which of the chosen candidates its pool holds."""
        found = []
        for entries, askers in self._tasks:
            pairs = [
                (column, entry)
                for column, candidate in enumerate(chosen)
                for entry in entries.get(candidate, ())
            ]
            related = [
                (query, place)
                for place, (_, entry) in enumerate(pairs)
                for query in askers.get(entry, ())
            ]
            found.append(
                Match(
                    columns=[column for column, _ in pairs],
                    rows=torch.tensor([query for query, _ in related], dtype=torch.long),
                    places=torch.tensor([place for _, place in related], dtype=torch.long),
                )
            )
        return found


class DepthSearch:
    """One reading's ranks, over all tasks."""

    def __init__(
        self,
        sample: Sample,
        reading: Reading,
        queries: Mapping[str, Tensor],
        positives: Mapping[str, Tensor],
    ) -> None:
        self._candidates = reading.candidates
        self._queries = [queries[reading.queries][:, list(task.queries)] for task in sample.tasks]
        self._ranks = []
        for ours, task in zip(self._queries, sample.tasks, strict=True):
            wanted = [[task.candidates[entry] for entry in own] for own in task.relevant]
            self._ranks.append(DepthRanks(wanted_scores(ours, positives[self._candidates], wanted)))

    def add(self, matches: Sequence[Match], vectors: Mapping[str, Tensor]) -> None:
        """Take in a batch of candidates, with unit vectors (K, B, D) by name."""
        for ranks, ours, match in zip(self._ranks, self._queries, matches, strict=True):
            if match.columns:
                theirs = vectors[self._candidates][:, match.columns].float()
                scores = ours.float() @ theirs.transpose(1, 2)
                ranks.add(scores, (match.rows, match.places))

    def merge(self, processes: Processes) -> None:
        """Add up what the processes found, each in its share of the candidates."""
        for ranks in self._ranks:
            ranks.merge(processes)

    def positions(self) -> list[NDArray[np.int64]]:
        """Return for each task the ranks (K, Q, R) of its relevant candidates."""
        return [ranks.positions() for ranks in self._ranks]
