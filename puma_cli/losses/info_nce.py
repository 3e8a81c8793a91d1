"""InfoNCE over in-batch candidates."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from puma_cli.losses.temperature import Temperature


class InfoNCE(nn.Module):
    """Contrastive loss: cross-entropy of cosine / temperature against each query's positive.

    Args:
        temperature: softmax temperature tau (> 0).
        symmetric: average with the candidate-to-query direction.
        learnable: train the temperature, which starts at the given one.
    """

    def __init__(
        self, temperature: float = 0.05, symmetric: bool = False, learnable: bool = False
    ) -> None:
        super().__init__()
        self.temperature = Temperature(temperature, learnable)
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
            candidates: embeddings (C, D).
            target: index of each query's positive (B,); by default the diagonal.
            excluded: True where a candidate must not count as a negative (B, C); positives stay.
        """
        cosine = cosines(queries, candidates)
        logits = cosine / self.temperature(cosine)
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
        logits = logits.masked_fill(negatives_left_out(excluded, target), float("-inf"))
    loss = cross_entropy(logits, target)
    if symmetric:
        # Column of each query's positive against all queries: (B, B), positives on the diagonal.
        back = logits[:, target].T
        # Queries that share a positive are all answers to it, and no negatives of one another.
        shared = target[:, None] == target[None, :]
        back = back.masked_fill(negatives_left_out(shared, rows), float("-inf"))
        loss = (loss + cross_entropy(back, rows)) / 2
    return loss


def negatives_left_out(excluded: Tensor, target: Tensor) -> Tensor:
    """Return `excluded` (B, C) without the positives, which always stay."""
    left_out = excluded.clone()
    left_out[torch.arange(len(target), device=target.device), target] = False
    return left_out
