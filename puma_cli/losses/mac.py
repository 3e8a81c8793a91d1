"""MAC-Loss: InfoNCE whose temperature adapts to the modality of each negative."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from puma_cli.losses.info_nce import contrastive_cross_entropy, cosines


class MACLoss(nn.Module):
    """Modality-adaptive contrastive loss (PUMA, arXiv 2507.08064, section on MAC-Loss).

    A candidate of the same modality as the query's positive is a harder negative than one of
    another modality; it is sharpened by a temperature that falls during the first half of training.

    Args:
        temperature: tau of inter-modality pairs (> 0).
        decay: strength of the decay (>= 0); 0 is InfoNCE.
        symmetric: average with the candidate-to-query direction.
    """

    def __init__(
        self, temperature: float = 0.03, decay: float = 0.5, symmetric: bool = False
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.decay = decay
        self.symmetric = symmetric

    def hard_temperature(self, progress: float) -> float:
        """Return tau_hard = tau * exp(-2 * decay * min(1/2, t/T)).

        Args:
            progress: share t/T of the training that is done [0, 1].
        """
        return self.temperature * math.exp(-2.0 * self.decay * min(0.5, progress))

    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        candidate_modality: Tensor,
        progress: float,
        target: Tensor | None = None,
        excluded: Tensor | None = None,
    ) -> Tensor:
        """Return the mean loss over the queries, a scalar.

        Args:
            queries: embeddings (B, D), normalised here.
            candidates: embeddings (C, D), C >= B.
            candidate_modality: one code a candidate (C,).
            progress: share t/T of the training that is done [0, 1].
            target: index of each query's positive (B,); by default the diagonal.
            excluded: True where a candidate must not count as a negative (B, C); positives stay.
        """
        rows = torch.arange(queries.shape[0], device=queries.device)
        positive = rows if target is None else target
        same = candidate_modality[positive][:, None] == candidate_modality[None, :]
        cosine = cosines(queries, candidates)
        # The diagonal counts as hard too: a positive has its own modality.
        temperature = torch.where(
            same,
            torch.as_tensor(self.hard_temperature(progress), dtype=cosine.dtype),
            torch.as_tensor(self.temperature, dtype=cosine.dtype),
        ).to(cosine.device)
        return contrastive_cross_entropy(cosine / temperature, target, excluded, self.symmetric)
