"""Exact search over embeddings, and the ranks of the relevant candidates in it.

Candidates stream by in blocks, so that memory does not grow with their number: they may lie in
memory or be mapped from files. Ties go by place, whatever the size of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from puma_cli.encoding.finite import check_finite
from puma_cli.encoding.vectors import Vectors
from puma_cli.evaluation.nearest import Nearest
from puma_cli.evaluation.ranking import TIE, Counter, Ranks
from puma_cli.evaluation.scanning import (
    as_vectors,
    bf16_is_faster,
    check_searchable,
    place_of,
    query_blocks,
    scan,
)

Relevant = Sequence[Sequence[int]]

_MANY = 10_000


def search(
    queries: Tensor | Vectors,
    candidates: Tensor | Vectors,
    k: int,
    *,
    query_chunk: int | None = None,
    candidate_chunk: int | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the `k` highest inner products of each query; equal scores go by candidate index.

    Scores are compared as fp64 sums rounded to fp32, so the result does not depend on the chunks.

    Args:
        queries: (Q, D) embeddings.
        candidates: (C, D) embeddings, C >= 1.
        k: results for each query (>= 1), cut to C.
        query_chunk: queries scored at a time; memory is `query_chunk * candidate_chunk` scores.
        candidate_chunk: candidates scored at a time.
        device: where to multiply; by default where `queries` are.

    Returns:
        scores (Q, k) in descending order and candidate indices (Q, k), both on the CPU.

    Raises:
        DataError: there are no candidates, or they are of another dimension.
        NumericError: an embedding is not finite.
    """
    found, _ = _run(queries, candidates, k, None, 1, TIE, query_chunk, candidate_chunk, device)
    return found


def rank_relevant(
    queries: Tensor | Vectors,
    candidates: Tensor | Vectors,
    relevant: Relevant,
    *,
    depth: int = 10,
    tie: float = TIE,
    query_chunk: int | None = None,
    candidate_chunk: int | None = None,
    device: torch.device | str | None = None,
) -> Ranks:
    """Rank the relevant candidates of each query among all candidates, ties against the model.

    An irrelevant candidate whose score is within `tie` of a relevant one counts as ahead of it, so
    a model that maps everything to one point scores zero rather than by the order of the pool.

    Args:
        queries: (Q, D) embeddings of unit length.
        candidates: (C, D) embeddings of unit length, C >= 1.
        relevant: for each query the indices of its relevant candidates; may be empty.
        depth: how many relevant candidates of each query are ranked, best first (>= 1).
        tie: largest difference of scores that is a tie (>= 0).
        query_chunk: queries scored at a time.
        candidate_chunk: candidates scored at a time.
        device: where to multiply; by default where `queries` are.

    Raises:
        DataError: there are no candidates, or they are of another dimension.
        NumericError: an embedding is not finite.
    """
    _, ranks = _run(
        queries, candidates, 0, relevant, depth, tie, query_chunk, candidate_chunk, device
    )
    return ranks


def search_and_rank(
    queries: Tensor | Vectors,
    candidates: Tensor | Vectors,
    k: int,
    relevant: Relevant,
    *,
    depth: int = 10,
    device: torch.device | str | None = None,
) -> tuple[tuple[Tensor, Tensor], Ranks]:
    """Return what `search` and `rank_relevant` return, from one pass over the candidates."""
    return _run(queries, candidates, k, relevant, depth, TIE, None, None, device)


def _run(
    queries: Tensor | Vectors,
    candidates: Tensor | Vectors,
    k: int,
    relevant: Relevant | None,
    depth: int,
    tie: float,
    query_chunk: int | None,
    candidate_chunk: int | None,
    device: torch.device | str | None,
) -> tuple[tuple[Tensor, Tensor], Ranks]:
    asked, pool = as_vectors(queries), as_vectors(candidates)
    check_searchable(asked, pool)
    place = place_of(device, queries)
    k = min(k, len(pool))
    scores = torch.empty(len(asked), k)
    indices = torch.empty(len(asked), k, dtype=torch.long)
    positions = np.zeros((len(asked), depth), dtype=np.int64)
    ties = np.zeros(len(asked), dtype=np.int64)
    for part in query_blocks(asked, query_chunk, place):
        rows = asked.rows(part.start, part.stop)
        check_finite("query", rows)
        rows = rows.to(place).float()
        best = Nearest(rows, pool, k) if k else None
        counter = None
        if relevant is not None:
            counter = Counter(rows, pool, relevant[part], depth, tie)
        for block in scan(rows, pool, candidate_chunk, place, _rough(best, counter, pool, place)):
            if best is not None:
                best.see(block)
            # Last, since it overwrites scores.
            if counter is not None:
                counter.see(block)
        if best is not None:
            scores[part], indices[part] = best.best()
        if counter is not None:
            found = counter.ranks(depth)
            positions[part], ties[part] = found.positions, found.ties
    return (scores, indices), Ranks(positions, ties)


def _rough(
    best: Nearest | None, counter: Counter | None, pool: Vectors, place: torch.device
) -> Callable[[], bool]:
    """Return what tells whether blocks in bf16 will do.

    The result is the same, but for ranks, or where candidates lie close, too many pairs would be
    scored again.
    """
    fits = counter is None and place.type == "cpu" and len(pool) >= _MANY
    if best is None or not fits or not bf16_is_faster():
        return lambda: False
    return lambda: not best.crowded
