"""Exact search over embeddings, in chunks, and the ranks of the relevant candidates in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puma_cli.errors import DataError, NumericError
from puma_cli.evaluation.top import Best, merged, top

TIE = 1e-6
"""Cosines closer than this are a tie: fp32 scores of equal vectors differ by a few 1e-7."""

_QUERIES = 1024
_CANDIDATES = 16384
_PAIRS = 8192


@dataclass(frozen=True)
class Ranks:
    """Where the relevant candidates of each query stand in the whole pool.

    Args:
        positions: (Q, depth) ranks of each query's best relevant candidates, ascending from 1;
            0 where a query has fewer.
        ties: (Q,) irrelevant candidates that tie with the best relevant one, all of which were
            counted ahead of it.
    """

    positions: NDArray[np.int64]
    ties: NDArray[np.int64]

    @property
    def first(self) -> NDArray[np.int64]:
        """Return (Q,) the rank of the first relevant candidate, 0 for none."""
        return self.positions[:, 0]


def search(
    queries: Tensor,
    candidates: Tensor,
    k: int,
    *,
    query_chunk: int = _QUERIES,
    candidate_chunk: int = _CANDIDATES,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the `k` highest inner products of each query; equal scores go by candidate index.

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
        DataError: there are no candidates.
        NumericError: an embedding is not finite.
    """
    _check(queries, candidates)
    place = torch.device(device) if device is not None else queries.device
    k = min(k, len(candidates))
    scores = torch.empty(len(queries), k)
    indices = torch.empty(len(queries), k, dtype=torch.long)
    for start in range(0, len(queries), query_chunk):
        block = queries[start : start + query_chunk].to(place)
        best: Best | None = None
        for first in range(0, len(candidates), candidate_chunk):
            part = block @ candidates[first : first + candidate_chunk].to(place).T
            found, where = top(part, min(k, part.shape[1]))
            new = found, where + first
            best = new if best is None else merged(best, new, k)
        assert best is not None
        scores[start : start + query_chunk] = best[0].cpu()
        indices[start : start + query_chunk] = best[1].cpu()
    return scores, indices


def rank_relevant(
    queries: Tensor,
    candidates: Tensor,
    relevant: Sequence[Sequence[int]],
    *,
    depth: int = 10,
    tie: float = TIE,
    query_chunk: int = _QUERIES,
    candidate_chunk: int = _CANDIDATES,
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
        DataError: there are no candidates.
        NumericError: an embedding is not finite.
    """
    _check(queries, candidates)
    place = torch.device(device) if device is not None else queries.device
    # A relevant candidate listed twice is still one candidate.
    unique = [sorted(set(indices)) for indices in relevant]
    owner = torch.tensor([q for q, row in enumerate(unique) for _ in row], dtype=torch.long)
    target = torch.tensor([c for row in unique for c in row], dtype=torch.long)
    positions = np.zeros((len(queries), depth), dtype=np.int64)
    ties = np.zeros(len(queries), dtype=np.int64)
    for start in range(0, len(queries), query_chunk):
        stop = min(start + query_chunk, len(queries))
        mine = slice(*torch.searchsorted(owner, torch.tensor([start, stop])).tolist())
        rows, columns = owner[mine] - start, target[mine]
        block = queries[start:stop].to(place)
        score = pair_scores(queries, candidates, owner[mine], columns)
        wanted = _best_by_row(score, rows, stop - start, depth).to(place)
        ahead = torch.zeros_like(wanted, dtype=torch.long)
        clear = torch.zeros(stop - start, dtype=torch.long, device=place)
        for first in range(0, len(candidates), candidate_chunk):
            part = block @ candidates[first : first + candidate_chunk].to(place).T
            inside = (columns >= first) & (columns < first + part.shape[1])
            part[rows[inside].to(place), (columns[inside] - first).to(place)] = -torch.inf
            for level in range(wanted.shape[1]):
                ahead[:, level] += (part >= wanted[:, level, None] - tie).sum(dim=1)
            clear += (part > wanted[:, :1] + tie).sum(dim=1)
        # Relevant candidates do not compete: the i-th has i relevant ones before it.
        rank = ahead + 1 + torch.arange(wanted.shape[1], device=place)
        present = wanted.isfinite()
        width = wanted.shape[1]
        positions[start:stop, :width] = torch.where(present, rank, 0).cpu().numpy()
        ties[start:stop] = torch.where(present[:, 0], ahead[:, 0] - clear, 0).cpu().numpy()
    return Ranks(positions, ties)


def _check(queries: Tensor, candidates: Tensor) -> None:
    if len(candidates) == 0:
        raise DataError(
            "The candidate pool is empty: there is nothing to search.",
            hint="Check the files below cand_pool/ of the data set.",
        )
    check_finite("query", queries)
    check_finite("candidate", candidates)


def check_finite(name: str, embeddings: Tensor) -> None:
    """Raise NumericError if some of the embeddings (N, D) of `name` are not finite."""
    # A NaN loses every comparison, so it would count as a perfect rank. One in a row makes its
    # sum one, which spares a mask of the whole matrix.
    bad = int((~embeddings.sum(dim=1).isfinite()).sum())
    if bad:
        raise NumericError(
            f"{bad} of {len(embeddings)} {name} embeddings are not finite.",
            cause="The model overflows in this dtype, or its weights are broken.",
            hint="Try --dtype float32.",
        )


def pair_scores(queries: Tensor, candidates: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the inner products (P,) of pairs of a query's row and a candidate's, on the CPU."""
    parts = [
        (
            queries[rows[at : at + _PAIRS]].cpu().float()
            * candidates[columns[at : at + _PAIRS]].cpu().float()
        ).sum(1)
        for at in range(0, len(rows), _PAIRS)
    ]
    return torch.cat(parts) if parts else torch.empty(0)


def _best_by_row(scores: Tensor, rows: Tensor, height: int, depth: int) -> Tensor:
    """Lay out the best scores of each row in descending order: (height, <= depth), inf padded."""
    order = scores.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]
    scores, rows = scores[order], rows[order]
    sizes = torch.bincount(rows, minlength=height)
    place = torch.arange(len(rows)) - (sizes.cumsum(0) - sizes)[rows]
    width = max(1, min(depth, int(sizes.max()) if height else 1))
    table = torch.full((height, width), torch.inf)
    keep = place < depth
    table[rows[keep], place[keep]] = scores[keep]
    return table
