"""Precision@1 by MMEB's rule: the best of a query's own candidates, where the first is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puma_cli.evaluation.ranking import TIE


class OwnRanks(NamedTuple):
    """Where the right candidate of each query stands among the query's own.

    Args:
        ranks: (Q,) from 1; a candidate that scores the same stands behind the right one.
        ties: (Q,) other candidates that share the highest score with the right one; 0 where the
            right one does not have it.
    """

    ranks: NDArray[np.int64]
    ties: NDArray[np.int64]


def rank_first(
    queries: Tensor, candidates: Tensor, own: Sequence[NDArray[np.integer]], tie: float = TIE
) -> OwnRanks:
    """Rank the first candidate of each query among the query's own.

    MMEB takes `numpy.argmax` of the scores, which among equal ones takes the first: a model that
    maps everything to one point scores 100%. Such ties are counted, near ones included.

    Args:
        queries: (Q, D) embeddings of unit length.
        candidates: (C, D) embeddings of unit length, each distinct candidate once.
        own: for each query the places of its candidates, the right one first.
        tie: largest difference of scores that is counted as a tie (>= 0).
    """
    ranks = np.empty(len(own), dtype=np.int64)
    ties = np.empty(len(own), dtype=np.int64)
    for row, places in enumerate(own):
        # A candidate that comes twice has one score, however the sums are taken.
        distinct, where = np.unique(places, return_inverse=True)
        vectors = candidates[torch.from_numpy(distinct.astype(np.int64))]
        # Row by row: in a matrix product, equal rows may be summed in different orders.
        scores = (vectors * queries[row]).sum(dim=1).numpy()
        right = scores[where[0]]
        ranks[row] = 1 + int((scores[where] > right).sum())
        others = np.abs(np.delete(scores, where[0]) - right) <= tie
        ties[row] = int(others.sum()) if right >= scores.max() - tie else 0
    return OwnRanks(ranks, ties)
