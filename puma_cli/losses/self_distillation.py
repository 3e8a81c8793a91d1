"""Self-distillation: the dropped layers' features, taught to the kept ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, kl_div, log_softmax

from puma_cli.losses.contrast import sum_over_rows, unit


def feature_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Return E||h_t - h_s||^2 / D over un-normalised post-norm states (B, D), a scalar.

    The paper's distillation term; the mean over D is its reference weights' convention.
    """
    return (teacher.float() - student.float()).square().mean()


def feature_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of 1 - cos(h_s, h_t) over states (B, D), a scalar in [0, 2]."""
    return 1.0 - cosine_similarity(student.float(), teacher.float(), dim=-1).mean()


def similarity_divergence(
    student_queries: Tensor,
    student_candidates: Tensor,
    teacher_queries: Tensor,
    teacher_candidates: Tensor,
    temperature: float,
) -> Tensor:
    """Return the mean KL divergence of the teacher's from the student's score distributions.

    Each query's scores over the batch's candidates, cosine / temperature, are read as a
    distribution; all inputs are (B, D) or (C, D), widths may differ between the two models.
    """
    asked, offered = unit(student_queries), unit(student_candidates)
    with torch.no_grad():
        full_asked, full_offered = unit(teacher_queries), unit(teacher_candidates)

    def divergence(rows: Tensor) -> Tensor:
        ours = log_softmax(asked[rows] @ offered.T / temperature, dim=-1)
        theirs = log_softmax(full_asked[rows] @ full_offered.T / temperature, dim=-1)
        return kl_div(ours, theirs, log_target=True, reduction="sum")

    return sum_over_rows(divergence, len(asked), len(offered), asked.device) / len(asked)


def gram_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of the cosines among a batch's embeddings, a scalar.

    How inputs lie to one another, whatever the widths: (B, D) and (B, D'); an embedding's cosine
    with itself is 1 in both and not counted. A batch of one teaches nothing.
    """
    ours, count = unit(student), len(student)
    with torch.no_grad():
        theirs = unit(teacher).to(ours)

    def apart(rows: Tensor) -> Tensor:
        difference = ours[rows] @ ours.T - theirs[rows] @ theirs.T
        # With itself, cosines differ by rounding alone.
        others = torch.arange(count, device=rows.device)[None, :] != rows[:, None]
        return (difference.square() * others).sum()

    return sum_over_rows(apart, count, count, ours.device) / max(1, count * (count - 1))
