"""Counting the candidates ahead of each query's relevant ones while blocks of scores pass by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puma_cli.encoding.vectors import Vectors
from puma_cli.evaluation.scanning import Block, pair_scores

TIE = 1e-6
"""Cosines closer than this are a tie: fp32 scores of equal vectors differ by a few 1e-7."""


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


class Counter:
    """How many irrelevant candidates are ahead of each query's relevant ones.

    Args:
        queries: (q, D) fp32, where the blocks are.
        candidates: all candidates, to score pairs again.
        relevant: for each query the places of its relevant candidates.
        depth: how many relevant candidates of each query are ranked, best first (>= 1).
        tie: largest difference of scores that is a tie (>= 0).
    """

    def __init__(
        self,
        queries: Tensor,
        candidates: Vectors,
        relevant: Sequence[Sequence[int]],
        depth: int,
        tie: float,
    ) -> None:
        self._queries, self._candidates = queries, candidates
        # A relevant candidate listed twice is still one candidate.
        unique = [sorted(set(indices)) for indices in relevant]
        owners = torch.tensor([q for q, row in enumerate(unique) for _ in row], dtype=torch.long)
        places = torch.tensor([c for row in unique for c in row], dtype=torch.long)
        score = pair_scores(queries, candidates, owners, places)
        device = queries.device
        self._owners, self._places = owners.to(device), places.to(device)
        self._wanted = _best_by_row(score, owners, len(unique), depth).to(device)
        # What is level with a relevant candidate is ahead of it, and clear only beyond the tie.
        self._ahead = _Tally(queries, candidates, self._wanted - tie)
        self._behind = _Tally(queries, candidates, self._wanted[:, :1] + tie, strict=True)

    def see(self, block: Block) -> None:
        """Take in a block; the scores of relevant candidates in it are overwritten."""
        column = self._places - block.first
        inside = (column >= 0) & (column < block.scores.shape[1])
        block.scores[self._owners[inside], column[inside]] = -torch.inf
        self._ahead.see(block)
        self._behind.see(block)

    def ranks(self, depth: int) -> Ranks:
        """Return the ranks among all candidates seen; `depth` is the width of the table."""
        width = self._wanted.shape[1]
        # Relevant candidates do not compete: the i-th has i relevant ones before it.
        rank = self._ahead.counts + 1 + torch.arange(width, device=self._wanted.device)
        present = self._wanted.isfinite()
        positions = np.zeros((len(self._wanted), depth), dtype=np.int64)
        positions[:, :width] = torch.where(present, rank, 0).cpu().numpy()
        ties = torch.where(present[:, 0], (self._ahead.counts - self._behind.counts)[:, 0], 0)
        return Ranks(positions, ties.cpu().numpy())


class _Tally:
    """Counts scores at or above bounds (q, w); those within the error are scored again by pair."""

    def __init__(
        self, queries: Tensor, candidates: Vectors, bounds: Tensor, strict: bool = False
    ) -> None:
        self._queries, self._candidates = queries, candidates
        # Above x is at or above the next number after x.
        self._bounds = bounds.nextafter(torch.full_like(bounds, torch.inf)) if strict else bounds
        self.counts = torch.zeros_like(bounds, dtype=torch.long)

    def see(self, block: Block) -> None:
        scores = block.scores
        for level in range(self._bounds.shape[1]):
            bound = self._bounds[:, level, None]
            low, high = bound - block.error, bound + block.error
            possible = (scores >= low).sum(dim=1)
            certain = (scores >= high).sum(dim=1)
            self.counts[:, level] += certain
            unsure = (possible > certain).nonzero()[:, 0]
            if len(unsure):
                near = scores[unsure]
                row, column = ((near >= low[unsure]) & (near < high[unsure])).nonzero(as_tuple=True)
                rows = unsure[row]
                exact = pair_scores(self._queries, self._candidates, rows, column + block.first)
                passed = exact.to(bound.device) >= bound[rows, 0]
                self.counts[:, level] += torch.bincount(rows[passed], minlength=len(bound))


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
