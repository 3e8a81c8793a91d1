"""Ridge regression from moments, against closed forms over the rows themselves, in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from puma_cli.errors import NumericError
from puma_cli.profiling.bridges.ridge import STRONGEST, WEAKEST, Moments, Ridge, choose_strength


def draw(
    rows: int, inputs: int = 6, outputs: int = 4, seed: int = 0, noise: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Correlated inputs with a mean, and noisy targets that are affine in them."""
    random = np.random.default_rng(seed)
    mix = np.random.default_rng(100).normal(size=(inputs, inputs))
    weight = np.random.default_rng(101).normal(size=(inputs, outputs))
    x = random.normal(size=(rows, inputs)) @ mix + 3.0
    y = x @ weight + 0.7
    y = y + noise * random.normal(size=(rows, outputs))
    return torch.from_numpy(x), torch.from_numpy(y)


def moments(x: Tensor, y: Tensor, *cuts: int) -> Moments:
    """The moments of rows added in parts that end at `cuts`."""
    found = Moments(x.shape[1], y.shape[1])
    bounds = [0, *cuts, len(x)]
    for start, stop in pairwise(bounds):
        found.add(x[start:stop], y[start:stop])
    return found


def naive(x: Tensor, y: Tensor, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Ridge as least squares over rows that pull the weight, and not the bias, to zero."""
    inputs = x.shape[1]
    centred = x.numpy() - x.numpy().mean(0)
    mean_eigenvalue = np.trace(centred.T @ centred) / len(x) / inputs
    pull = np.sqrt(strength * mean_eigenvalue * len(x))
    above = np.hstack([x.numpy(), np.ones((len(x), 1))])
    below = np.hstack([pull * np.eye(inputs), np.zeros((inputs, 1))])
    targets = np.vstack([y.numpy(), np.zeros((inputs, y.shape[1]))])
    solution = np.linalg.lstsq(np.vstack([above, below]), targets, rcond=None)[0]
    return solution[:-1], solution[-1]


@pytest.mark.parametrize("strength", [0.0, 1e-4, 0.1, 10.0])
def test_the_map_is_the_least_squares_solution(strength: float) -> None:
    x, y = draw(50)
    found = Ridge(moments(x, y)).fit(strength)
    weight, bias = naive(x, y, strength)
    np.testing.assert_allclose(found.weight.numpy(), weight, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.bias.numpy(), bias, rtol=1e-9, atol=1e-11)


@given(
    st.integers(3, 60),
    st.lists(st.integers(0, 60), max_size=6),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_any_division_into_batches_gives_the_same_moments(
    rows: int, cuts: list[int], seed: int
) -> None:
    x, y = draw(rows, seed=seed)
    whole = moments(x, y)
    parts = moments(x, y, *sorted(min(cut, rows) for cut in cuts))
    assert parts.rows == whole.rows == rows
    for name in ("mean_x", "mean_y", "xx", "xy", "yy"):
        expected = getattr(whole, name)
        difference = (getattr(parts, name) - expected).abs().max()
        assert difference <= 1e-12 * (1.0 + expected.abs().max()), name


def test_merging_is_adding_the_rows() -> None:
    x, y = draw(40)
    first, second = moments(x[:13], y[:13]), moments(x[13:], y[13:])
    before = second.xx.clone()
    first.merge(second)
    first.merge(Moments(6, 4))
    whole = moments(x, y)
    torch.testing.assert_close(first.xx, whole.xx, rtol=1e-12, atol=0)
    torch.testing.assert_close(first.xy, whole.xy, rtol=1e-12, atol=1e-12)
    assert first.rows == 40 and torch.equal(second.xx, before)


def test_a_large_mean_does_not_drown_a_small_spread() -> None:
    """Raw sums of squares would lose the spread: 1e8 squared leaves nothing of 1 in a double."""
    x, y = draw(200)
    expected = Ridge(moments(x, y, 60, 61)).fit(1e-3)
    shifted = Ridge(moments(x + 1e8, y, 60, 61)).fit(1e-3)
    torch.testing.assert_close(shifted.weight, expected.weight, rtol=1e-5, atol=1e-6)


def test_shifts_scales_rotations_and_repetitions_change_nothing() -> None:
    x, y = draw(50)
    new, _ = draw(9, seed=5)
    expected = Ridge(moments(x, y)).fit(0.05)(new)
    rotation = torch.linalg.qr(torch.from_numpy(np.random.default_rng(7).normal(size=(6, 6))))[0]
    for change in (
        lambda rows: rows + 11.0,
        lambda rows: 250.0 * rows,
        lambda rows: rows @ rotation,
    ):
        found = Ridge(moments(change(x), y)).fit(0.05)(change(new))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    twice = Ridge(moments(x.repeat(2, 1), y.repeat(2, 1))).fit(0.05)(new)
    torch.testing.assert_close(twice, expected, rtol=1e-9, atol=1e-9)
    # Targets are mapped as they are: what is done to them is done to the result.
    moved = Ridge(moments(x, 3.0 * y + 2.0)).fit(0.05)(new)
    torch.testing.assert_close(moved, 3.0 * expected + 2.0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("strength", [0.0, 1e-3, 1.0, 1e4])
def test_the_held_out_error_from_moments_is_that_of_the_rows(strength: float) -> None:
    x, y = draw(40)
    new_x, new_y = draw(17, seed=3, noise=1.0)
    ridge, held = Ridge(moments(x, y)), moments(new_x, new_y, 5)
    found = ridge.fit(strength)
    direct = float((found(new_x) - new_y).square().sum(1).mean())
    assert ridge.errors(held, [strength]) == [pytest.approx(direct, rel=1e-9)]
    assert found.error(held) == pytest.approx(direct, rel=1e-9)
    length = float(found(new_x).square().sum(1).mean())
    assert found.mean_square(held) == pytest.approx(length, rel=1e-9)


def test_the_strength_with_the_least_held_out_error_is_chosen() -> None:
    x, y = draw(12, noise=4.0)
    new_x, new_y = draw(400, seed=3, noise=4.0)
    ridge, held = Ridge(moments(x, y)), moments(new_x, new_y)
    strength, error = choose_strength(ridge, held)
    assert 10.0**WEAKEST < strength < 10.0**STRONGEST
    assert error == pytest.approx(ridge.fit(strength).error(held), rel=1e-9)
    around = [strength * 10.0**power for power in np.linspace(-3, 3, 13)]
    assert min(ridge.errors(held, around)) == pytest.approx(error, rel=1e-12)


def test_the_grid_goes_on_beyond_the_end_that_is_best() -> None:
    x, y = draw(60, noise=0.0)
    exact, _ = choose_strength(Ridge(moments(x, y)), moments(*draw(60, seed=3, noise=0.0)))
    assert exact < 10.0**WEAKEST
    # Targets that have nothing to do with the inputs are best met by their mean.
    random = np.random.default_rng(0)
    x, y = (torch.from_numpy(random.normal(size=(30, n))) for n in (6, 4))
    strongest, error = choose_strength(Ridge(moments(x, y)), moments(x, -y + 2 * y.mean(0)))
    assert strongest > 10.0**STRONGEST
    assert error == pytest.approx(float((y - y.mean(0)).square().sum(1).mean()), rel=1e-6)


def test_inputs_without_spread_map_to_the_mean() -> None:
    _, y = draw(20)
    x = torch.full((20, 6), 2.5, dtype=torch.float64)
    found = Ridge(moments(x, y)).fit(0.0)
    assert torch.equal(found.weight, torch.zeros(6, 4, dtype=torch.float64))
    torch.testing.assert_close(found.bias, y.mean(0))


def test_more_inputs_than_rows_take_the_least_norm() -> None:
    x, y = draw(4)
    found = Ridge(moments(x, y)).fit(0.0)
    centred = x - x.mean(0)
    expected = np.linalg.pinv(centred.numpy()) @ (y - y.mean(0)).numpy()
    np.testing.assert_allclose(found.weight.numpy(), expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found(x), y, rtol=1e-8, atol=1e-8)


def test_numbers_that_are_not_finite_are_refused() -> None:
    x, y = draw(5)
    with pytest.raises(NumericError, match="inputs hold a number"):
        moments(x.index_fill(0, torch.tensor([2]), torch.nan), y)
    with pytest.raises(NumericError, match="targets hold a number"):
        moments(x, y * torch.inf)
    with pytest.raises(NumericError, match="too large"):
        Ridge(moments(x * 1e200, y))
    with pytest.raises(NumericError, match="held-out errors"):
        choose_strength(Ridge(moments(x, y)), moments(x, y * 1e200))
