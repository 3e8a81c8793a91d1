"""The temperature of a contrastive loss, given or learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Bounds of what is learned: below, fp32 gradients of the softmax vanish; above, nothing is asked.
LOWEST, HIGHEST = 0.005, 1.0


class Temperature(nn.Module):
    """A softmax temperature tau, or one for each pair of a query's and a candidate's modality.

    Args:
        value: tau (> 0), or a table of them by codes of modality (M, M).
        learnable: train log tau; it stays between .005 and 1.
    """

    log_value: Tensor

    def __init__(self, value: float | Tensor, learnable: bool = False) -> None:
        super().__init__()
        # Parameters are float32; a temperature that is given keeps all its digits.
        log = torch.as_tensor(value, dtype=torch.float32 if learnable else torch.float64).log()
        if not bool(log.isfinite().all()):
            raise ValueError(f"a temperature must be above 0, not {value}")
        self.learnable = learnable
        if learnable:
            self.log_value = nn.Parameter(log)
        else:
            self.register_buffer("log_value", log, persistent=False)

    @property
    def is_table(self) -> bool:
        """Whether it differs by modality."""
        return self.log_value.ndim == 2

    def now(self) -> Tensor:
        """Return tau, or the table of taus, as it is trained so far."""
        log = self.log_value
        if self.learnable:
            log = log.clamp(math.log(LOWEST), math.log(HIGHEST))
        return log.exp()

    def forward(
        self,
        like: Tensor,
        query_modality: Tensor | None = None,
        candidate_modality: Tensor | None = None,
    ) -> Tensor:
        """Return tau, a scalar, or (B, C) for the pairs of codes (B,) and (C,).

        Args:
            like: a tensor whose number format and device it comes in.
        """
        tau = self.now().to(like)
        if not self.is_table:
            return tau
        if query_modality is None or candidate_modality is None:
            raise ValueError("temperatures by modality need the modalities of both sides")
        return tau[query_modality[:, None], candidate_modality[None, :]]
