"""What the losses know of a batch beside its embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Labels:
    """Which of C candidates answer which of B queries, and what kind each is.

    Args:
        target: column of each query's positive (B,).
        excluded: True where a candidate is neither a query's positive nor its negative (B, C).
        query_modality: code of each query's modality (B,).
        candidate_modality: code of each candidate's modality (C,).
    """

    target: Tensor
    excluded: Tensor
    query_modality: Tensor
    candidate_modality: Tensor

    def to(self, device: torch.device) -> Labels:
        """Return the labels on `device`."""
        return Labels(**{name: value.to(device) for name, value in vars(self).items()})
