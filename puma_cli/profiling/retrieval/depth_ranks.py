"""Ranks of the relevant candidates at every depth, with candidates that pass by in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puma_cli.evaluation.ranking import TIE
from puma_cli.processes import Processes

# nDCG@10 looks no further than the ten best relevant candidates.
RANKED = 10


class DepthRanks:
    """Counts, for each query and depth, the candidates ahead of each relevant one.

    No candidate is kept, so a pool may be of any size. As in evaluation, an irrelevant candidate
    that ties with a relevant one counts as ahead of it.

    Args:
        wanted: scores of each query's relevant candidates at each depth (K, Q, R), best first,
            `inf` for none; at most ten are ranked.
        tie: largest difference of scores that is a tie (>= 0).
    """

    def __init__(self, wanted: Tensor, tie: float = TIE) -> None:
        self._wanted = wanted[..., :RANKED]
        self._tie = tie
        self._ahead = torch.zeros_like(self._wanted, dtype=torch.long)

    def add(self, scores: Tensor, relevant: tuple[Tensor, Tensor]) -> None:
        """Take in b candidates of the pool.

        Args:
            scores: of all queries with them at each depth (K, Q, b); overwritten.
            relevant: queries and columns of the pairs that belong together, (p,) each: a relevant
                candidate does not compete.
        """
        scores[:, relevant[0], relevant[1]] = -torch.inf
        for place in range(self._wanted.shape[2]):
            limit = self._wanted[:, :, place, None] - self._tie
            self._ahead[:, :, place] += (scores >= limit).sum(dim=2)

    def merge(self, processes: Processes) -> None:
        """Add up what the processes counted, each on its share of the candidates."""
        processes.total(self._ahead)

    def positions(self) -> NDArray[np.int64]:
        """Return the ranks (K, Q, R) of each query's relevant candidates, 0 for none."""
        before = torch.arange(self._wanted.shape[2], device=self._wanted.device)
        ranks = self._ahead + 1 + before
        found: NDArray[np.int64] = torch.where(self._wanted.isfinite(), ranks, 0).cpu().numpy()
        return found


def wanted_scores(queries: Tensor, candidates: Tensor, relevant: Sequence[Sequence[int]]) -> Tensor:
    """Return the scores of each query with its relevant candidates (K, Q, R), best first.

    Args:
        queries: unit vectors (K, Q, D).
        candidates: unit vectors (K, P, D), or (1, P, D) where they are the same at every depth.
        relevant: for each query the places of its relevant candidates among the P; none is fine.

    Returns:
        the scores, `inf` where a query has fewer than R.
    """
    width = max(1, max(map(len, relevant), default=1))
    place = queries.device
    owner = torch.tensor([q for q, row in enumerate(relevant) for _ in row], device=place).long()
    slot = torch.tensor([i for row in relevant for i in range(len(row))], device=place).long()
    target = torch.tensor([c for row in relevant for c in row], device=place).long()
    found = torch.full((*queries.shape[:2], width), -torch.inf, device=place)
    for k, ours in enumerate(queries):
        theirs = candidates[k if len(candidates) > 1 else 0]
        found[k, owner, slot] = (ours[owner].float() * theirs[target].float()).sum(dim=1)
    found = found.sort(dim=2, descending=True).values
    return found.masked_fill(found == -torch.inf, torch.inf)
