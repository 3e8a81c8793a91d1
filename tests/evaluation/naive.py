"""Slow references written from the definitions, one query and one candidate at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pessimistic_order(scores: Sequence[float], relevant: set[int], tie: float) -> list[int]:
    """Order the candidates with the irrelevant ones ahead of a relevant one they tie with."""
    handicapped = [s - tie * (i in relevant) for i, s in enumerate(scores)]
    return sorted(range(len(scores)), key=lambda i: (-handicapped[i], i in relevant, i))


def relevant_ranks(scores: Sequence[float], relevant: set[int], tie: float = 1e-6) -> list[int]:
    order = pessimistic_order(scores, relevant, tie)
    return [place for place, i in enumerate(order, start=1) if i in relevant]


def hit(order: Sequence[int], relevant: set[int], k: int) -> float:
    return float(any(i in relevant for i in order[:k]))


def reciprocal(order: Sequence[int], relevant: set[int], k: int) -> float:
    for place, i in enumerate(order[:k], start=1):
        if i in relevant:
            return 1 / place
    return 0.0


def ndcg(order: Sequence[int], relevant: set[int], judged: int, k: int) -> float:
    gain = sum(1 / math.log2(p + 1) for p, i in enumerate(order[:k], start=1) if i in relevant)
    best = sum(1 / math.log2(p + 1) for p in range(1, min(judged, k) + 1))
    return gain / best if best else 0.0
