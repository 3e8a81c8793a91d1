"""Which queries a report shows, and what was found for them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from puma_cli.data.records import Candidate, Query
from puma_cli.evaluation.results import TaskScores
from puma_cli.report.gallery import ACROSS, Example, Found, Ranking

Lookup = Callable[[str], Candidate]


def drawn(places: Sequence[int], count: int, *seeds: object) -> list[int]:
    """Return at most `count` of `places` in ascending order, drawn by what seeds them."""
    digest = hashlib.sha256(repr(seeds).encode()).digest()
    chosen = random.Random(digest).sample(list(places), min(count, len(places)))
    return sorted(chosen)


def right_and_wrong(row: TaskScores, count: int, seed: int) -> list[tuple[str, int]]:
    """Return queries answered right and wrong at rank 1, `count` of each: a word and a place."""
    right = [place for place, rank in enumerate(row.ranks) if rank == 1]
    wrong = [place for place, rank in enumerate(row.ranks) if rank != 1]
    return [
        (word, place)
        for word, places in (("right", right), ("wrong", wrong))
        for place in drawn(places, count, seed, row.task, row.pool, word)
    ]


def gained_and_lost(
    before: TaskScores, after: TaskScores, count: int, seed: int
) -> list[tuple[str, int]]:
    """Return queries that one model answers at rank 1 and the other does not, as above."""
    pairs = list(zip(before.ranks == 1, after.ranks == 1, strict=True))
    lost = [place for place, (old, new) in enumerate(pairs) if old and not new]
    gained = [place for place, (old, new) in enumerate(pairs) if new and not old]
    return [
        (word, place)
        for word, places in (("lost", lost), ("gained", gained))
        for place in drawn(places, count, seed, before.task, before.pool, word)
    ]


def make_example(
    heading: str,
    query: Query,
    instruction: str | None,
    relevant: Sequence[str],
    found: Mapping[str, tuple[Sequence[str], int]],
    lookup: Lookup,
) -> Example:
    """Return a query with what each model found for it.

    Args:
        heading: the task and why it is shown.
        relevant: ids that answer it.
        found: by model the ids of its best candidates and the rank of the first relevant one, 0
            for none.
        lookup: returns a candidate by its id.
    """
    rankings = []
    for model, (dids, rank) in found.items():
        shown = [(did, lookup(did)) for did in dids[:ACROSS]]
        rankings.append(
            Ranking(
                model,
                tuple(Found(each.text, each.image, did in relevant) for did, each in shown),
                rank or None,
            )
        )
    return Example(heading, instruction, query.text, query.image, tuple(rankings))


def read_run(path: Path, wanted: set[str]) -> dict[str, list[str]]:
    """Return the ids of the best candidates of the `wanted` queries from a run file.

    Raises:
        OSError: there is no such file.
        ValueError: a line has too few columns.
    """
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            qid, _, did, rank, _ = line.split(maxsplit=4)
            if qid in wanted and int(rank) <= ACROSS:
                found.setdefault(qid, []).append(did)
    return found
