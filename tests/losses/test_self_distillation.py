"""Self-distillation terms against closed forms in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from puma_cli.losses import feature_cosine, feature_mse, gram_mse, similarity_divergence


def test_mse_of_a_constant_offset() -> None:
    teacher = torch.randn(5, 8)
    assert feature_mse(teacher + 0.5, teacher).item() == pytest.approx(0.25, rel=1e-5)
    assert feature_mse(teacher, teacher).item() == 0.0


def test_mse_is_on_unnormalised_states() -> None:
    teacher = torch.ones(2, 4)
    assert feature_mse(3 * teacher, teacher).item() == pytest.approx(4.0)


def test_cosine_ignores_length_and_ranges_from_zero_to_two() -> None:
    teacher = torch.randn(6, 8)
    assert feature_cosine(7 * teacher, teacher).item() == pytest.approx(0.0, abs=1e-6)
    assert feature_cosine(-teacher, teacher).item() == pytest.approx(2.0, abs=1e-6)


def test_similarity_divergence_is_the_kl_divergence_of_two_softmaxes() -> None:
    student = torch.randn(3, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    teacher = torch.randn(3, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    tau, expected = 0.2, 0.0
    for i in range(3):
        rows = []
        for queries, candidates in (student, teacher):
            scores = [
                math.exp(float(queries[i] @ c / (queries[i].norm() * c.norm())) / tau)
                for c in candidates
            ]
            rows.append([score / sum(scores) for score in scores])
        expected += sum(p * math.log(p / q) for q, p in zip(*rows, strict=True))
    result = similarity_divergence(*student, *teacher, temperature=tau)
    assert result.item() == pytest.approx(expected / 3, rel=1e-12)


def test_similarity_divergence_of_a_rotated_teacher_is_zero() -> None:
    """Only scores matter: a rotation of both sides leaves them as they are."""
    queries, candidates = torch.randn(4, 6).double(), torch.randn(4, 6).double()
    rotation = torch.linalg.qr(torch.randn(6, 6).double())[0]
    result = similarity_divergence(
        queries, candidates, queries @ rotation, candidates @ rotation, 0.05
    )
    assert result.item() == pytest.approx(0.0, abs=1e-12)


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    similarity_divergence(student, student, teacher, teacher, 0.1).backward()
    assert teacher.grad is None and student.grad is not None


def test_gram_compares_how_inputs_lie_to_one_another() -> None:
    student, teacher = torch.randn(5, 4).double(), torch.randn(5, 6).double()
    expected = 0.0
    for i in range(5):
        for j in range(5):
            ours, theirs = (torch.cosine_similarity(x[i], x[j], dim=0) for x in (student, teacher))
            expected += float((ours - theirs) ** 2) / 20
    assert gram_mse(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    rotation = torch.linalg.qr(torch.randn(4, 4).double())[0]
    assert gram_mse(student, 3 * student @ rotation).item() == pytest.approx(0.0, abs=1e-12)
    assert gram_mse(student[:1], teacher[:1]).item() == 0.0


@pytest.mark.parametrize("term", [feature_mse, feature_cosine, gram_mse])
def test_gradients_are_right(term: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    student = torch.randn(4, 5, requires_grad=True)
    teacher = torch.randn(4, 5)
    direction = torch.randn(4, 5)
    term(student, teacher).backward()
    assert student.grad is not None
    with torch.no_grad():
        step = 1e-2
        rise = term(student + step * direction, teacher) - term(student - step * direction, teacher)
    slope = float((student.grad * direction).sum())
    assert float(rise) / (2 * step) == pytest.approx(slope, rel=2e-2, abs=1e-4)
