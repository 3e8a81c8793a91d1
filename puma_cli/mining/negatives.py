"""From questions and a pool to each question's negatives: the positives first, then all others."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from puma_cli.config.settings import MineSettings
from puma_cli.errors import DataError
from puma_cli.evaluation.scanning import pair_scores
from puma_cli.mining.hardest import Bounds, Hardest, margin
from puma_cli.mining.passes import Passes
from puma_cli.mining.pool import DistinctPool, Kinds
from puma_cli.mining.questions import Question
from puma_cli.models.inputs import Input

Ranked = Sequence[tuple[float, int]]
"""Scores and places of candidates, the highest score first."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found for one question.

    Args:
        positive: cosine of its lowest-scoring positive, or None if the pool holds none.
        negatives: ids, the hardest first.
        scores: their cosines.
        others: candidates that competed.
        above: those of them that scored above the margin.
    """

    positive: float | None = None
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    others: int = 0
    above: int = 0


def find_negatives(
    passes: Passes,
    questions: Sequence[Question],
    asks: Sequence[Input],
    pool: DistinctPool,
    settings: MineSettings,
) -> list[Found]:
    """Return what was found for each question.

    Args:
        asks: what the embedder sees of each question.

    Raises:
        DataError: no question has a positive in the pool.
        NumericError: an embedding is not finite.
    """
    positives = [pool.places(question.positives) for question in questions]
    answers = sorted({place for places in positives for place in places})
    if not answers:
        raise DataError(
            "No training query has a positive in the training pool.",
            cause="Negatives are told from answers by the score of the known one.",
            hint="Check cand_pool/global/mbeir_union_train_cand_pool.jsonl.",
        )
    queries = passes.hold(asks, "queries")
    held = passes.hold([pool.candidates[place].to_input() for place in answers], "positives")
    lowest = _lowest(queries, held, positives, answers)
    groups = _groups(questions, positives, pool, union=settings.pool == "union")
    searches = {}
    for kinds, rows in groups.items():
        barred = _barred(rows, positives, questions, pool, settings.keep_existing)
        bounds = _bounds(lowest[rows], settings)
        kept = settings.depth if settings.sample else settings.skip + settings.negatives
        searches[kinds] = Hardest(torch.tensor(rows), bounds, barred, kept)
    rest = _rest(pool, groups, set(answers))
    for block, vectors in passes.held_blocks(held):
        _add(searches, pool, queries, [answers[at] for at in block], vectors)
    inputs = [pool.candidates[place].to_input() for place in rest]
    for block, vectors in passes.blocks(inputs, "candidates"):
        _add(searches, pool, queries, [rest[at] for at in block], vectors)
    found = [Found()] * len(questions)
    for kinds, rows in groups.items():
        search = searches[kinds]
        search.share(passes.processes)
        for at, row in enumerate(rows):
            chosen = choose(search.ranked(at), settings, questions[row].query.qid)
            found[row] = Found(
                positive=float(lowest[row]),
                negatives=tuple(pool.did(place, kinds) for _, place in chosen),
                scores=tuple(score for score, _ in chosen),
                others=int(search.others[at]),
                above=int(search.above[at]),
            )
    return found


def choose(ranked: Ranked, settings: MineSettings, qid: str) -> Ranked:
    """Return the negatives among a question's best candidates, the hardest first."""
    left = ranked[settings.skip :]
    if not settings.sample or len(left) <= settings.negatives:
        return left[: settings.negatives]
    drawn = random.Random(f"{settings.seed}/{qid}").sample(range(len(left)), settings.negatives)
    return [left[at] for at in sorted(drawn)]


def _lowest(
    queries: Tensor, held: Tensor, positives: Sequence[Sequence[int]], answers: Sequence[int]
) -> Tensor:
    """Return each question's cosine with its lowest-scoring positive (Q,); infinity for none."""
    rows, places = _pairs(positives)
    scores = pair_scores(queries, held, rows, torch.searchsorted(torch.tensor(answers), places))
    return torch.full((len(queries),), torch.inf).scatter_reduce(0, rows, scores, "amin")


def _groups(
    questions: Sequence[Question],
    positives: Sequence[Sequence[int]],
    pool: DistinctPool,
    union: bool,
) -> dict[Kinds, list[int]]:
    """Return which questions are searched in which kinds; those without positives in none."""
    groups: dict[Kinds, list[int]] = defaultdict(list)
    for row, (question, places) in enumerate(zip(questions, positives, strict=True)):
        if places:
            groups[None if union else pool.kinds_of(question.positives)].append(row)
    return dict(groups)


def _barred(
    rows: Sequence[int],
    positives: Sequence[Sequence[int]],
    questions: Sequence[Question],
    pool: DistinctPool,
    keep_existing: bool,
) -> tuple[Tensor, Tensor]:
    """Return the pairs of a group's query and a candidate that is its positive, or named anyhow."""
    return _pairs(
        {*positives[row], *(pool.places(questions[row].negatives) if keep_existing else ())}
        for row in rows
    )


def _bounds(positive: Tensor, settings: MineSettings) -> Bounds:
    return Bounds(
        margins=margin(positive, settings.relative_margin),
        highest=torch.inf if settings.max_score is None else settings.max_score,
        lowest=-torch.inf if settings.min_score is None else settings.min_score,
    )


def _rest(pool: DistinctPool, groups: Iterable[Kinds], known: set[int]) -> list[int]:
    """Return the places besides the `known` that some group is searched in."""
    wanted = {kind for kinds in groups for kind in kinds or ()}
    whole = None in groups
    return [
        place
        for place in range(len(pool.candidates))
        if place not in known and (whole or not wanted.isdisjoint(pool.ids(place)))
    ]


def _add(
    searches: dict[Kinds, Hardest],
    pool: DistinctPool,
    queries: Tensor,
    places: Sequence[int],
    vectors: Tensor,
) -> None:
    """Show a block of candidates to every group that is searched in their kinds."""
    by_kind = pool.by_kind(places)
    table = torch.tensor(places)
    for kinds, search in searches.items():
        if kinds is None:
            search.add(queries, table, vectors)
            continue
        own = sorted({at for kind in kinds for at in by_kind.get(kind, ())})
        search.add(queries, table[own], vectors[own])


def _pairs(rows: Iterable[Iterable[int]]) -> tuple[Tensor, Tensor]:
    """Return two columns: for each entry of each row the row's number, and the entry."""
    flat = [(number, entry) for number, row in enumerate(rows) for entry in row]
    table = torch.tensor(flat, dtype=torch.long).reshape(-1, 2)
    return table[:, 0].contiguous(), table[:, 1].contiguous()
