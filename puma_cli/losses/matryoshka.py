"""Embeddings whose first components are embeddings already (Matryoshka, arXiv 2205.13147)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def over_prefixes(
    loss: Callable[[Tensor, Tensor], Tensor],
    queries: Tensor,
    candidates: Tensor,
    dimensions: Sequence[int],
) -> Tensor:
    """Return the mean of a loss over the first d components, for all `dimensions`, a scalar.

    Args:
        loss: takes queries (B, d) and candidates (C, d).
        queries: embeddings (B, D).
        candidates: embeddings (C, D).
        dimensions: lengths d (1 to D); none stands for D alone.
    """
    lengths = dimensions or (queries.shape[-1],)
    return torch.stack([loss(queries[:, :d], candidates[:, :d]) for d in lengths]).mean()
