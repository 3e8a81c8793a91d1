"""How much of what is nearest an approximate index finds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Vectors of the index that are asked for, and results that are compared.
SAMPLE, DEPTH = 100, 10


def sample_places(count: int, wanted: int = SAMPLE) -> list[int]:
    """Return places spread evenly over `count`, at most `wanted`."""
    wanted = min(wanted, count)
    return [n * count // wanted for n in range(wanted)]


def recall(found: Sequence[set[object]], exact: Sequence[set[object]]) -> float:
    """Return the share of exact results that were found, in [0, 1]."""
    total = sum(map(len, exact))
    return sum(len(a & b) for a, b in zip(found, exact, strict=True)) / max(1, total)


def sets_of(places: Tensor) -> list[set[object]]:
    """Return the results (Q, k) of each query; places below 0 are none."""
    return [set(row[row >= 0].tolist()) for row in places.to(torch.long)]
