"""Which in-batch candidates are likely answers, and so no negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from puma_cli.losses.contrast import cosines, without_positives


@torch.no_grad()
def false_negatives(
    teacher_queries: Tensor, teacher_candidates: Tensor, target: Tensor, margin: float
) -> Tensor:
    """Return True where the teacher scores a candidate near or above the query's positive (B, C).

    A candidate counts as one if its cosine is more than that of the positive plus `margin`; the
    positive itself never does.

    Args:
        teacher_queries: the teacher's embeddings (B, D).
        teacher_candidates: the same of the candidates (C, D).
        target: index of each query's positive (B,).
        margin: such as -0.05, which is stricter, or 0.0.
    """
    scores = cosines(teacher_queries, teacher_candidates)
    positive = scores.gather(1, target[:, None])
    return without_positives(scores > positive + margin, target)
