"""The best of many scores, found block by block; equal scores go by place."""

from __future__ import annotations

import torch
from torch import Tensor

Best = tuple[Tensor, Tensor]
"""Scores (Q, k) in descending order and the places (Q, k) that they are found at."""


def top(scores: Tensor, k: int) -> Best:
    """Return the `k` highest of each row of scores (Q, C), 1 <= k <= C.

    Among scores of minus infinity, which stand for what does not compete, any may be taken.
    """
    best, where = scores.topk(k, dim=1)
    # topk may pick any of several candidates that share the k-th score: sort such rows fully.
    last = best[:, -1:]
    crowded = ((scores >= last) & (last > -torch.inf)).sum(dim=1) > k
    if crowded.any():
        ordered = scores[crowded].sort(dim=1, descending=True, stable=True)
        best[crowded], where[crowded] = ordered.values[:, :k], ordered.indices[:, :k]
    return _ordered(best, where)


def merged(first: Best, second: Best, k: int) -> Best:
    """Return the `k` highest of two sets of scores of the same rows, or all where they are less."""
    scores, places = (torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))
    scores, places = _ordered(scores, places)
    return scores[:, :k], places[:, :k]


def _ordered(scores: Tensor, places: Tensor) -> Best:
    places, order = places.sort(dim=1)
    scores = scores.gather(1, order)
    order = scores.argsort(dim=1, descending=True, stable=True)
    return scores.gather(1, order), places.gather(1, order)
