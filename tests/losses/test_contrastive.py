"""InfoNCE and MAC-Loss against closed forms and naive loops, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.losses import (
    InfoNCE,
    MACLoss,
    batch_accuracy,
    contrast,
    false_negatives,
    gram_mse,
    over_prefixes,
    similarity_divergence,
)
from puma_cli.losses.temperature import HIGHEST, LOWEST


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


def test_sharpening_follows_the_paper_and_is_not_rounded() -> None:
    loss = MACLoss(0.03, decay=0.5)
    assert loss.sharpening(0.0) == 1.0
    assert loss.sharpening(0.5) == pytest.approx(math.exp(-0.5), rel=1e-15)
    assert 0.03 * loss.sharpening(0.5) == pytest.approx(0.0182, abs=5e-5)
    assert loss.sharpening(1.0) == loss.sharpening(0.5)


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


def test_a_table_gives_every_pair_of_modalities_its_temperature() -> None:
    queries, candidates = random_pair(4, 7, seed=2)
    asked, answers = torch.tensor([0, 1, 0, 2]), torch.tensor([1, 0, 0, 2, 1, 2, 0])
    target = [1, 0, 6, 3]
    table = torch.tensor([[0.2, 0.3, 0.4], [0.5, 0.25, 0.35], [0.6, 0.45, 0.15]]).double()
    loss = MACLoss(table, decay=0.8)(
        queries, candidates, answers, 0.3, torch.tensor(target), query_modality=asked
    )
    hard = math.exp(-0.8 * 2 * 0.3)
    each = [
        [
            float(table[asked[i], answers[j]]) * (hard if answers[target[i]] == answers[j] else 1)
            for j in range(7)
        ]
        for i in range(4)
    ]
    assert loss.item() == pytest.approx(naive_loss(queries, candidates, each, target), rel=1e-12)
    with pytest.raises(ValueError, match="modalities of both sides"):
        MACLoss(table)(queries, candidates, answers, 0.3, torch.tensor(target))


@pytest.mark.parametrize("mac", [False, True])
def test_a_learned_temperature_has_the_right_gradient_and_stays_in_bounds(mac: bool) -> None:
    queries, candidates = random_pair(5, 5)
    modality = torch.tensor([0, 1, 0, 2, 1])
    loss = (MACLoss if mac else InfoNCE)(0.2, learnable=True).double()

    def value() -> torch.Tensor:
        more = (modality, 0.4) if mac else ()
        return loss(queries, candidates, *more)

    log_tau = loss.temperature.log_value
    value().backward()
    step = 1e-6
    with torch.no_grad():
        log_tau += step
        above = value()
        log_tau -= 2 * step
        below = value()
    assert log_tau.grad is not None
    assert log_tau.grad.item() == pytest.approx(float(above - below) / (2 * step), rel=1e-6)
    for far, bound in ((1e-9, LOWEST), (50.0, HIGHEST)):
        with torch.no_grad():
            log_tau.fill_(math.log(far))
        assert loss.temperature().item() == pytest.approx(bound)


def test_a_temperature_that_is_given_is_no_weight() -> None:
    assert not list(MACLoss(0.03).parameters()) and not MACLoss(0.03).state_dict()
    assert float(InfoNCE(0.03).temperature()) == pytest.approx(0.03, rel=1e-15)
    with pytest.raises(ValueError, match="above 0"):
        InfoNCE(0.0)


def test_queries_that_share_a_positive_are_no_negatives_of_one_another() -> None:
    queries, candidates = random_pair(3, 2, seed=4)
    target = torch.tensor([0, 0, 1])
    tau = 0.3
    both = InfoNCE(tau, symmetric=True)(queries, candidates, target)
    cosine = [[float(torch.cosine_similarity(q, c, dim=0)) for c in candidates] for q in queries]
    back = 0.0
    for i in range(3):
        rivals = [j for j in range(3) if j == i or target[j] != target[i]]
        scores = {j: math.exp(cosine[j][target[i]] / tau) for j in rivals}
        back -= math.log(scores[i] / sum(scores.values())) / 3
    forth = naive_loss(queries, candidates, [[tau] * 2] * 3, target.tolist())
    assert both.item() == pytest.approx((forth + back) / 2, rel=1e-12)


def test_a_hard_negative_adds_its_own_entry_and_no_other() -> None:
    queries, candidates = random_pair(4, 4)
    more = torch.cat([candidates, random_pair(4, 1, seed=9)[1]])
    plain, harder = (InfoNCE(0.1)(queries, pool) for pool in (candidates, more))
    assert harder > plain
    masked = torch.zeros(4, 5, dtype=torch.bool)
    masked[:, 4] = True
    assert torch.equal(InfoNCE(0.1)(queries, more, excluded=masked), plain)


@pytest.mark.parametrize("loss", [InfoNCE(0.05), InfoNCE(0.05, symmetric=True)])
def test_zero_embeddings_give_the_log_of_the_batch(loss: InfoNCE) -> None:
    nothing = torch.zeros(6, 4, dtype=torch.float64)
    assert loss(nothing, nothing).item() == pytest.approx(math.log(6), abs=1e-12)


def test_prefixes_are_trained_as_embeddings_of_their_own() -> None:
    queries, candidates = random_pair(4, 6)
    loss = InfoNCE(0.1)
    found = over_prefixes(loss, queries, candidates, (2, 5, 7))
    each = [loss(queries[:, :d].contiguous(), candidates[:, :d].contiguous()) for d in (2, 5, 7)]
    assert found.item() == pytest.approx(float(sum(each)) / 3, rel=1e-12)
    assert torch.equal(over_prefixes(loss, queries, candidates, ()), loss(queries, candidates))


def test_false_negatives_are_those_that_the_teacher_prefers() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = torch.tensor([[1.0, 0.1], [0.1, 1.0], [1.0, 0.0], [0.9, 0.45]])
    target = torch.tensor([0, 1])
    strict = false_negatives(queries, candidates, target, margin=0.0)
    assert strict.tolist() == [[False, False, True, False], [False] * 4]
    wide = false_negatives(queries, candidates, target, margin=-0.2)
    assert wide.tolist() == [[False, False, True, True], [False] * 4]


def test_accuracy_counts_the_answers_found_among_each_kind_of_negative() -> None:
    queries = torch.eye(3)
    candidates = torch.tensor([[1.0, 0, 0], [0, 0.5, 1.0], [0, 0, 1.0], [0, 1.0, 0]])
    target, modality = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1, 1])
    excluded = torch.zeros(3, 4, dtype=torch.bool)
    found = batch_accuracy(queries, candidates, target, excluded, modality)
    # The second query scores the last candidate, of another modality, above its positive.
    assert found == {
        "accuracy": pytest.approx(2 / 3),
        "intra": 1.0,
        "inter": pytest.approx(2 / 3),
    }
    excluded[1, 3] = True
    assert batch_accuracy(queries, candidates, target, excluded, modality)["accuracy"] == 1.0
    same = torch.zeros(4, dtype=torch.long)
    assert "inter" not in batch_accuracy(queries, candidates, target, excluded, same)


@pytest.mark.parametrize("learnable", [False, True])
def test_row_blocks_change_neither_losses_nor_gradients(
    monkeypatch: pytest.MonkeyPatch, learnable: bool
) -> None:
    queries, candidates = random_pair(11, 17)
    more, others = random_pair(11, 17, seed=1)
    target = torch.tensor([3, 0, 8, 5, 3, 11, 16, 2, 1, 12, 9])
    modality = torch.arange(17) % 3
    excluded = torch.rand(11, 17, generator=torch.Generator().manual_seed(3)) < 0.2
    table = torch.full((3, 3), 0.2) + torch.arange(9).view(3, 3) / 50
    losses: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "info_nce": lambda q, c: InfoNCE(0.1, symmetric=True)(q, c, target, excluded),
        "mac": lambda q, c: MACLoss(table, 0.5, True, learnable)(
            q, c, modality, 0.3, target, excluded, torch.arange(11) % 3
        ),
        "similarity": lambda q, c: similarity_divergence(q, c, more, others, 0.1),
        "gram": lambda q, c: gram_mse(q, more) + gram_mse(c, others),
    }
    found = {}
    for scores in (1 << 20, 4 * 17, 1):
        monkeypatch.setattr(contrast, "SCORES", scores)
        for name, loss in losses.items():
            q, c = queries.clone().requires_grad_(), candidates.clone().requires_grad_()
            value = loss(q, c)
            value.backward()
            assert q.grad is not None and c.grad is not None
            found[name, scores] = torch.cat([value.detach()[None], q.grad.ravel(), c.grad.ravel()])
    for name in losses:
        for scores in (4 * 17, 1):
            torch.testing.assert_close(
                found[name, scores], found[name, 1 << 20], rtol=1e-12, atol=1e-14
            )
