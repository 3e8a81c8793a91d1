"""MAC-Loss: InfoNCE whose temperature adapts to the modality of each negative."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from puma_cli.losses.contrast import contrast, unit
from puma_cli.losses.temperature import Temperature


class MACLoss(nn.Module):
    """Modality-adaptive contrastive loss (PUMA, arXiv 2507.08064, section on MAC-Loss).

    A candidate of the same modality as the query's positive is a harder negative than one of
    another modality; it is sharpened by a temperature that falls during the first half of training:

        T[i][j] = tau * exp(-2 * decay * min(1/2, t/T))   if modality(positive_i) == modality(c_j)
                  tau                                     otherwise

    Args:
        temperature: tau (> 0), or a table of taus by codes of the query's and the candidate's
            modality (M, M).
        decay: strength of the decay (>= 0); 0 is InfoNCE.
        symmetric: average with the candidate-to-query direction.
        learnable: train tau, which starts at the given one.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.03,
        decay: float = 0.5,
        symmetric: bool = False,
        learnable: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = Temperature(temperature, learnable)
        self.decay = decay
        self.symmetric = symmetric

    def sharpening(self, progress: float) -> float:
        """Return tau_hard / tau = exp(-2 * decay * min(1/2, t/T)).

        Args:
            progress: share t/T of the training that is done [0, 1].
        """
        return math.exp(-2.0 * self.decay * min(0.5, progress))

    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        candidate_modality: Tensor,
        progress: float,
        target: Tensor | None = None,
        excluded: Tensor | None = None,
        query_modality: Tensor | None = None,
    ) -> Tensor:
        """Return the mean loss over the queries, a scalar.

        Args:
            queries: embeddings (B, D), normalised here.
            candidates: embeddings (C, D).
            candidate_modality: one code a candidate (C,).
            progress: share t/T of the training that is done [0, 1].
            target: index of each query's positive (B,); by default the diagonal.
            excluded: True where a candidate must not count as a negative (B, C); positives stay.
            query_modality: one code a query (B,); only a table of temperatures needs it.
        """
        tau = self.temperature().to(unit(queries[:1]))
        if self.temperature.is_table and query_modality is None:
            raise ValueError("temperatures by modality need the modalities of both sides")
        sharpening = self.sharpening(progress)

        def of_pairs(query: Tensor, candidate: Tensor) -> Tensor:
            code = candidate_modality[candidate]
            own = candidate_modality[query if target is None else target[query]]
            base = tau if query_modality is None else self._of(tau, query_modality[query], code)
            # The positive counts as hard too: it has its own modality.
            return torch.where(own == code, base * sharpening, base)

        return contrast(queries, candidates, of_pairs, target, excluded, self.symmetric)

    def _of(self, tau: Tensor, query: Tensor, candidate: Tensor) -> Tensor:
        return tau[query, candidate] if self.temperature.is_table else tau
