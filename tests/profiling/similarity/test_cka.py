"""Unbiased linear CKA against the textbook estimator, and by its invariances."""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from puma_cli.profiling.similarity.cka import BLOCK_BYTES, block_rows, cka_bytes, unbiased_cka


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most memory of tensors that `work` held at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    steps = [event for event in events if event["name"] == "[memory]"]
    steps.sort(key=lambda event: event["ts"])
    changes = [int(step["args"]["Bytes"]) for step in steps]
    return max(itertools.accumulate(changes))


def naive_hsic(first: list[list[float]], second: list[list[float]]) -> float:
    """HSIC_1 as Song et al. write it, term by term."""
    n = len(first)

    def kernel(rows: list[list[float]]) -> list[list[float]]:
        products = [
            [math.fsum(a * b for a, b in zip(x, y, strict=True)) for y in rows] for x in rows
        ]
        return [[0.0 if i == j else products[i][j] for j in range(n)] for i in range(n)]

    k, m = kernel(first), kernel(second)
    trace = math.fsum(k[i][j] * m[j][i] for i in range(n) for j in range(n))
    sums = math.fsum(map(math.fsum, k)) * math.fsum(map(math.fsum, m))
    chain = math.fsum(math.fsum(k[i]) * math.fsum(m[i]) for i in range(n))
    return (trace + sums / ((n - 1) * (n - 2)) - 2 * chain / (n - 2)) / (n * (n - 3))


def naive_cka(first: list[list[float]], second: list[list[float]]) -> float:
    own = naive_hsic(first, first) * naive_hsic(second, second)
    return naive_hsic(first, second) / math.sqrt(own)


def biased_cka(first: torch.Tensor, second: torch.Tensor) -> float:
    x, y = first - first.mean(0), second - second.mean(0)
    return float((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def pair(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(unbiased_cka(torch.stack([first, second]))[0, 1])


def draw(*size: int, seed: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("rows", "width"), [(4, 3), (5, 40), (17, 6)])
def test_every_pair_equals_the_naive_reference(rows: int, width: int) -> None:
    states = draw(4, rows, width, seed=0).cumsum(0) + 2.0
    before = states.clone()
    found = unbiased_cka(states)
    assert found.shape == (4, 4) and found.dtype == torch.float64
    for k in range(4):
        for m in range(4):
            expected = naive_cka(states[k].tolist(), states[m].tolist())
            assert found[k, m].item() == pytest.approx(expected, abs=1e-10)
    assert torch.equal(found, found.T)
    assert torch.equal(found.diagonal(), torch.ones(4, dtype=torch.float64))
    assert torch.equal(states, before)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(4, 20),
    width=st.integers(2, 12),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-100, 100),
)
def test_one_for_rotations_scalings_and_shifts(
    seed: int, rows: int, width: int, scale: float, shift: float
) -> None:
    states = draw(rows, width, seed=seed)
    rotation, _ = torch.linalg.qr(draw(width, width, seed=seed + 1))
    moved = scale * (states @ rotation) + shift * draw(width, seed=seed + 2)
    assert pair(states, moved) == pytest.approx(1.0, abs=1e-9)
    # Neither is the similarity to a third one changed by it.
    other = draw(rows, 5, seed=seed + 3) @ draw(5, width, seed=seed + 4)
    assert pair(other, moved) == pytest.approx(pair(other, states), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(11)))
def test_the_order_of_rows_does_not_matter(seed: int, order: list[int]) -> None:
    states = draw(3, 11, 7, seed=seed).cumsum(0)
    assert torch.allclose(unbiased_cka(states[:, order]), unbiased_cka(states), rtol=0, atol=1e-12)
    # Unless the depths are shuffled apart.
    apart = torch.stack([states[0], states[1][order]])
    if order != sorted(order):
        assert abs(float(unbiased_cka(apart)[0, 1] - unbiased_cka(states)[0, 1])) > 1e-6


def test_not_one_for_a_map_that_is_no_rotation() -> None:
    states = draw(40, 6, seed=5)
    stretched = states * torch.tensor([9.0, 1, 1, 1, 1, 1])
    assert 0.1 < pair(states, stretched) < 0.9


def test_exactly_zero_on_average_over_all_matchings_of_rows() -> None:
    first, second = draw(5, 8, seed=6), draw(5, 8, seed=7)
    values = [
        pair(first, second[list(order)]) for order in itertools.permutations(range(len(second)))
    ]
    assert sum(values) / len(values) == pytest.approx(0.0, abs=1e-12)
    assert max(values) > 0.3


def test_zero_on_average_for_independent_rows_where_the_biased_one_is_not() -> None:
    draws = [(draw(10, 64, seed=2 * n), draw(10, 64, seed=2 * n + 1)) for n in range(300)]
    values = torch.tensor([pair(*both) for both in draws], dtype=torch.float64)
    error = values.std().item() / math.sqrt(len(values))
    assert abs(values.mean().item()) < 3 * error < 0.05
    assert sum(biased_cka(*both) for both in draws) / len(draws) > 0.8


@pytest.mark.parametrize("rows", [4, 6, 7, 11, 13])
def test_depths_that_tell_no_rows_apart_have_no_cka(rows: int) -> None:
    # In float64, where the mean of equal numbers is off by its rounding.
    states = draw(4, rows, 6, seed=8)
    states[1] = states[1, :1]
    states[2, 1:] = states[2, 1]
    known = ~unbiased_cka(states).isnan()
    expected = torch.tensor([[True, False, False, True]])
    assert torch.equal(known, expected & expected.T)
    equally_far = torch.eye(rows, dtype=torch.float64)
    assert math.isnan(pair(equally_far, draw(rows, rows, seed=9)))


@pytest.mark.parametrize("size", [1e-15, 1e-3, 1e4, 1e30])
def test_neither_small_nor_large_numbers_are_lost(size: float) -> None:
    states = draw(2, 8, 5, seed=10).float()
    expected = pair(states[0], states[1])
    assert pair(states[0] * size, states[1]) == pytest.approx(expected, abs=1e-6)


def test_a_massive_shared_activation_does_not_count() -> None:
    states = draw(2, 30, 100, seed=11)
    expected = pair(states[0], states[1])
    states[:, :, 7] += 1e4
    assert pair(states[0], states[1]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rows", [1, 2, 5, 23])
def test_blocks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    states = draw(3, 23, 4, seed=12)
    whole = unbiased_cka(states)
    assert block_rows(3, 23) == 23
    monkeypatch.setattr("puma_cli.profiling.similarity.cka.BLOCK_BYTES", 8 * 3 * 23 * rows)
    assert block_rows(3, 23) == rows
    assert torch.allclose(unbiased_cka(states), whole, rtol=0, atol=1e-12)


def test_three_rows_are_too_few() -> None:
    with pytest.raises(ValueError, match="needs 4 rows, got 3"):
        unbiased_cka(torch.randn(2, 3, 4))
    assert unbiased_cka(torch.randn(2, 4, 4)).isfinite().all()


def test_memory_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puma_cli.profiling.similarity.cka.BLOCK_BYTES", 1 << 20)
    for depths, rows, width in ((6, 200, 600), (29, 100, 8), (2, 300, 300)):
        states = torch.randn(depths, rows, width)
        said = cka_bytes(depths, rows, width)
        assert 0.6 * said < peak_bytes(partial(unbiased_cka, states)) <= said


def test_memory_stays_below_a_gigabyte_for_large_models() -> None:
    assert BLOCK_BYTES < cka_bytes(29, 2000, 3584) < 300e6
    assert cka_bytes(81, 2000, 8192) < 1e9
