"""InfoNCE and MAC-Loss against closed forms and naive loops, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.losses import InfoNCE, MACLoss


def naive_loss(
    queries: torch.Tensor,
    candidates: torch.Tensor,
    temperature: list[list[float]],
    target: list[int],
    excluded: torch.Tensor | None = None,
) -> float:
    """The definition, one query and one candidate at a time."""
    total = 0.0
    for i, query in enumerate(queries):
        scores = {}
        for j, candidate in enumerate(candidates):
            if excluded is not None and excluded[i, j] and j != target[i]:
                continue
            cosine = float(query @ candidate / (query.norm() * candidate.norm()))
            scores[j] = math.exp(cosine / temperature[i][j])
        total -= math.log(scores[target[i]] / sum(scores.values()))
    return total / len(queries)


def random_pair(batch: int, pool: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, 7, generator=generator, dtype=torch.float64),
        torch.randn(pool, 7, generator=generator, dtype=torch.float64),
    )


@given(batch=st.integers(1, 9), temperature=st.floats(0.01, 2.0))
@settings(max_examples=25, deadline=None)
def test_equal_embeddings_give_log_of_the_batch(batch: int, temperature: float) -> None:
    same = torch.ones(batch, 5, dtype=torch.float64)
    loss = InfoNCE(temperature)(same, same)
    assert loss.item() == pytest.approx(math.log(batch), abs=1e-12)


def test_orthonormal_embeddings_have_a_closed_form() -> None:
    batch, tau = 6, 0.1
    eye = torch.eye(batch, dtype=torch.float64)
    expected = math.log(1 + (batch - 1) * math.exp(-1 / tau))
    assert InfoNCE(tau)(eye, eye).item() == pytest.approx(expected, rel=1e-10)
    assert InfoNCE(tau, symmetric=True)(eye, eye).item() == pytest.approx(expected, rel=1e-10)


def test_info_nce_is_the_naive_sum_with_extra_candidates_and_exclusions() -> None:
    queries, candidates = random_pair(4, 9)
    target = torch.tensor([3, 0, 8, 5])
    excluded = torch.rand(4, 9, generator=torch.Generator().manual_seed(3)) < 0.3
    loss = InfoNCE(0.2)(queries, candidates, target, excluded)
    expected = naive_loss(queries, candidates, [[0.2] * 9] * 4, target.tolist(), excluded)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_symmetric_loss_is_the_mean_of_both_directions() -> None:
    queries, candidates = random_pair(5, 5)
    both = InfoNCE(0.3, symmetric=True)(queries, candidates)
    forth, back = InfoNCE(0.3)(queries, candidates), InfoNCE(0.3)(candidates, queries)
    assert both.item() == pytest.approx(((forth + back) / 2).item(), rel=1e-12)


def test_a_known_positive_is_no_negative() -> None:
    queries, candidates = random_pair(3, 3)
    candidates[1] = candidates[0]
    excluded = torch.zeros(3, 3, dtype=torch.bool)
    with_false_negative = InfoNCE(0.05)(queries, candidates, excluded=excluded)
    excluded[0, 1] = excluded[1, 0] = True
    without = InfoNCE(0.05)(queries, candidates, excluded=excluded)
    assert without < with_false_negative


def test_excluding_the_positive_itself_has_no_effect() -> None:
    queries, candidates = random_pair(3, 3)
    excluded = torch.eye(3, dtype=torch.bool)
    plain, masked = (InfoNCE()(queries, candidates, excluded=e) for e in (None, excluded))
    assert torch.equal(plain, masked)


def test_half_precision_inputs_are_computed_in_fp32() -> None:
    queries, candidates = random_pair(8, 8)
    loss = InfoNCE(0.05)(queries.half(), candidates.half())
    assert loss.dtype == torch.float32
    exact = InfoNCE(0.05)(queries.half().double(), candidates.half().double())
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.5, 0.9])
def test_mac_is_the_naive_sum_with_a_temperature_for_each_pair(progress: float) -> None:
    queries, candidates = random_pair(5, 5, seed=1)
    modality = torch.tensor([0, 1, 0, 2, 1])
    loss = MACLoss(0.3, decay=0.7)(queries, candidates, modality, progress)
    hard = 0.3 * math.exp(-0.7 * 2 * min(0.5, progress))
    table = [[hard if modality[i] == modality[j] else 0.3 for j in range(5)] for i in range(5)]
    assert loss.item() == pytest.approx(
        naive_loss(queries, candidates, table, list(range(5))), rel=1e-12
    )


def test_hard_temperature_follows_the_paper_and_is_not_rounded() -> None:
    loss = MACLoss(0.03, decay=0.5)
    assert loss.hard_temperature(0.0) == 0.03
    assert loss.hard_temperature(0.5) == pytest.approx(0.03 * math.exp(-0.5), rel=1e-15)
    assert loss.hard_temperature(0.5) == pytest.approx(0.0182, abs=5e-5)
    assert loss.hard_temperature(1.0) == loss.hard_temperature(0.5)


def test_mac_without_decay_is_info_nce() -> None:
    queries, candidates = random_pair(6, 6)
    modality = torch.tensor([0, 1, 2, 0, 1, 2])
    mac = MACLoss(0.07, decay=0.0)(queries, candidates, modality, progress=0.8)
    assert mac.item() == pytest.approx(InfoNCE(0.07)(queries, candidates).item(), rel=1e-14)


def test_mac_weighs_a_negative_of_the_same_modality_more() -> None:
    """Its gradient pushes harder on the same-modality one of two equally similar negatives."""
    query = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    candidates = torch.tensor(
        [[1.0, 0.2, 0.0], [0.9, 0.0, 0.4], [0.9, 0.4, 0.0]], dtype=torch.float64
    )
    candidates.requires_grad_()
    MACLoss(0.1, decay=1.0)(query, candidates, torch.tensor([0, 0, 1]), 1.0).backward()
    assert candidates.grad is not None
    hard, easy = candidates.grad[1].norm(), candidates.grad[2].norm()
    assert hard != easy
    # Cosine to the query is equal, so only the temperature tells the two apart.
    assert candidates[1] @ query[0] == candidates[2] @ query[0]


def test_mac_gradient_is_right() -> None:
    queries, candidates = random_pair(4, 4)
    queries.requires_grad_(), candidates.requires_grad_()
    modality = torch.tensor([0, 1, 1, 0])
    loss = MACLoss(0.3, symmetric=True)
    assert torch.autograd.gradcheck(lambda q, c: loss(q, c, modality, 0.3), (queries, candidates))
