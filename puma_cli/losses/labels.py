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

    def kept(self, queries: Tensor, candidates: Tensor) -> Labels:
        """Return the labels of some queries and candidates.

        Args:
            queries: True for those that stay (B,); their positives must stay too.
            candidates: likewise (C,).
        """
        column = candidates.cumsum(0) - 1
        return Labels(
            column[self.target[queries]],
            self.excluded[queries][:, candidates],
            self.query_modality[queries],
            self.candidate_modality[candidates],
        )

    def to(self, device: torch.device) -> Labels:
        """Return the labels on `device`."""
        return Labels(**{name: value.to(device) for name, value in vars(self).items()})
