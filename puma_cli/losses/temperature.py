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

    def forward(self) -> Tensor:
        """Return tau, a scalar, or the table of taus (M, M)."""
        log = self.log_value
        if self.learnable:
            log = log.clamp(math.log(LOWEST), math.log(HIGHEST))
        return log.exp()
