"""InfoNCE over in-batch candidates."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize


class InfoNCE(nn.Module):
    """Contrastive loss: cross-entropy of cosine / temperature against each query's positive.

    Args:
        temperature: softmax temperature tau (> 0).
        symmetric: average with the candidate-to-query direction.
    """

    def __init__(self, temperature: float = 0.05, symmetric: bool = False) -> None:
        super().__init__()
        self.temperature = temperature
        self.symmetric = symmetric

    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        target: Tensor | None = None,
        excluded: Tensor | None = None,
    ) -> Tensor:
        """Return the mean loss over the queries, a scalar.

        Args:
            queries: embeddings (B, D), normalised here.
            candidates: embeddings (C, D), C >= B.
            target: index of each query's positive (B,); by default the diagonal.
            excluded: True where a candidate must not count as a negative (B, C); positives stay.
        """
        logits = cosines(queries, candidates) / self.temperature
        return contrastive_cross_entropy(logits, target, excluded, self.symmetric)


def cosines(queries: Tensor, candidates: Tensor) -> Tensor:
    """Return all cosines (B, C), in fp32 or better whatever the inputs are."""
    wide = torch.promote_types(queries.dtype, torch.float32)
    return normalize(queries.to(wide), dim=-1) @ normalize(candidates.to(wide), dim=-1).T


def contrastive_cross_entropy(
    logits: Tensor,
    target: Tensor | None = None,
    excluded: Tensor | None = None,
    symmetric: bool = False,
) -> Tensor:
    """Return the mean cross-entropy of logits (B, C) against each row's target, a scalar."""
    rows = torch.arange(logits.shape[0], device=logits.device)
    target = rows if target is None else target
    if excluded is not None:
        negative = excluded.clone()
        negative[rows, target] = False
        logits = logits.masked_fill(negative, float("-inf"))
    loss = cross_entropy(logits, target)
    if symmetric:
        # Column of each query's positive against all queries: (B, B), positives on the diagonal.
        loss = (loss + cross_entropy(logits[:, target].T, rows)) / 2
    return loss
