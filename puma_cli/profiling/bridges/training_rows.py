"""Which inputs a bridge is fitted on, and which it is judged by."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.data.records import Candidate, Query, dataset_of
from puma_cli.errors import DataError
from puma_cli.models.inputs import Input

# A map of two hundred numbers to as many needs at least some inputs; fewer are surely a mistake.
FEWEST = 20


def bridge_rows(
    data: MbeirFolder, limit: int, held_out: float, seed: int
) -> tuple[list[Input], list[Input]]:
    """Draw inputs of the training split: those to fit on, and those held out.

    Half are queries, each with one of its instructions, half candidates. Every task's queries and
    every modality's candidates get an equal share, as far as there are so many, and give the same
    part of it to the held-out inputs. No input comes twice.

    Args:
        limit: at most this many inputs in all.
        held_out: share (0 to 1) of them that is held out.

    Raises:
        DataError: the split is missing or broken, or has too few inputs.
    """
    queries: dict[Hashable, list[Query | Candidate]] = defaultdict(list)
    candidates: dict[Hashable, Sample] = {}
    for query in data.train_queries():
        queries[dataset_of(query.qid), query.task_id].append(query)
    for candidate in data.stream_union_pool("train"):
        key = dataset_of(candidate.did), candidate.modality
        if key not in candidates:
            candidates[key] = Sample(limit, (seed, len(candidates)))
        candidates[key].add(candidate)
    if not candidates:
        raise DataError(f"The candidate pool of the training split of {data.root} is empty.")
    sides = [list(queries.values()), [sample.kept for sample in candidates.values()]]
    totals = [sum(map(len, side)) for side in sides]
    groups = [
        (group, share)
        for side, total in zip(sides, shares(totals, limit), strict=True)
        for group, share in zip(side, shares([len(g) for g in side], total), strict=True)
    ]
    fitted: list[Input] = []
    judged: list[Input] = []
    seen: set[Input] = set()
    for place, (group, share) in enumerate(groups):
        chosen: list[Input] = []
        for entry in _shuffled(group, (seed, place)):
            if len(chosen) == share:
                break
            row = _input(entry, data, seed)
            if row not in seen:
                seen.add(row)
                chosen.append(row)
        part = round(held_out * len(chosen))
        judged += chosen[:part]
        fitted += chosen[part:]
    if len(fitted) + len(judged) < FEWEST or not judged:
        raise DataError(
            f"{data.root} has {len(fitted) + len(judged)} training inputs for a bridge.",
            cause=f"It takes at least {FEWEST}, some of them held out.",
            hint="Give a data set with a larger training split, or more --bridge-rows.",
        )
    return fitted, judged


class Sample:
    """An even draw from entries that come one by one; all of them, if they are few.

    A benchmark's pool has millions of candidates, and a bridge takes thousands.

    Args:
        limit: how many are kept (>= 1).
    """

    def __init__(self, limit: int, seed: tuple[int, int]) -> None:
        self.kept: list[Query | Candidate] = []
        self._limit = limit
        self._seen = 0
        self._random = random.Random(repr(seed))

    def add(self, entry: Query | Candidate) -> None:
        """Take in the next entry (Vitter 1985, algorithm R)."""
        self._seen += 1
        if len(self.kept) < self._limit:
            self.kept.append(entry)
            return
        place = self._random.randrange(self._seen)
        if place < self._limit:
            self.kept[place] = entry


def shares(sizes: Sequence[int], limit: int) -> list[int]:
    """Divide `limit` evenly among groups; what a small one leaves goes to the larger ones."""
    out = [0] * len(sizes)
    left = limit
    order = sorted(range(len(sizes)), key=lambda place: sizes[place])
    for done, place in enumerate(order):
        out[place] = min(sizes[place], left // (len(sizes) - done))
        left -= out[place]
    return out


def _shuffled(
    group: Sequence[Query | Candidate], seed: tuple[int, int]
) -> Iterator[Query | Candidate]:
    for place in np.random.default_rng(seed).permutation(len(group)):
        yield group[place]


def _input(entry: Query | Candidate, data: MbeirFolder, seed: int) -> Input:
    if isinstance(entry, Query):
        return entry.to_input(data.instructions.pick(entry, "seeded", seed))
    return entry.to_input()
