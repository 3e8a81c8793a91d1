"""Intervals over queries and seeds, against closed forms and a naive resampling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ablations.paired import compare, resampled


def test_draws_have_the_moments_of_all_possible_draws() -> None:
    """Two seeds and two queries: every draw of both can be written out."""
    values = np.array([[[0.0], [1.0]], [[1.0], [3.0]]])  # (S, Q, M)
    every = [
        values[list(seeds)][:, list(queries), 0].mean()
        for seeds in itertools.product(range(2), repeat=2)
        for queries in itertools.product(range(2), repeat=2)
    ]
    drawn = resampled([values], resamples=40_000)[:, 0]
    assert set(np.round(drawn, 9)) == set(np.round(every, 9))
    assert drawn.mean() == pytest.approx(np.mean(every), abs=0.02)
    assert drawn.std() == pytest.approx(np.std(every), abs=0.02)


def test_seeds_are_drawn_alike_for_all_tasks_and_models() -> None:
    """Two models and tasks that depend on the seed alone never come apart."""
    by_seed = np.arange(3.0)[:, None, None]
    tasks = [np.broadcast_to(by_seed, (3, 5, 2)), np.broadcast_to(2 * by_seed, (3, 7, 2))]
    drawn = resampled(tasks, resamples=200)
    np.testing.assert_allclose(drawn[:, 0], drawn[:, 1])
    # Means of both tasks: 1.5 times a mean of three seeds, so a multiple of one half.
    np.testing.assert_allclose(drawn * 2, np.round(drawn * 2), atol=1e-9)


def test_draws_in_pieces_have_the_same_law(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((3, 40, 2))
    whole = resampled([values], resamples=4000)
    monkeypatch.setattr("ablations.paired._CELLS", 40 * 2 * 7)
    parts = resampled([values], resamples=4000)
    np.testing.assert_allclose(whole.mean(axis=0), parts.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(whole.std(axis=0), parts.std(axis=0), rtol=0.1)


def test_a_constant_difference_has_no_width() -> None:
    base = np.random.default_rng(1).random((3, 30))
    found = compare([base + 0.25], [base], resamples=500)
    assert found.difference == pytest.approx(0.25)
    assert found.difference_interval == pytest.approx((0.25, 0.25))
    assert found.score_interval.high - found.score_interval.low > 0.01
    assert found.p_value < 0.01 and found.seeds == 3


def test_equal_variants_do_not_differ() -> None:
    base = np.random.default_rng(2).random((2, 30))
    found = compare([base], [base], resamples=500)
    assert found.difference_interval == (0, 0)
    assert found.kept == 1 and found.kept_interval == (1, 1) and found.p_value == 1


def test_one_seed_stands_beside_many() -> None:
    teacher = np.ones((1, 20))
    students = np.stack([np.zeros(20), np.ones(20), np.ones(20)])
    found = compare([students], [teacher], resamples=2000)
    assert found.kept == pytest.approx(2 / 3)
    assert found.kept_interval is not None
    # What varies is the draw of three seeds alone: from none of the good ones to all of them.
    assert found.kept_interval.low == 0 and found.kept_interval.high == 1


def test_a_reference_of_zeros_bounds_no_ratio() -> None:
    found = compare([np.ones((1, 9))], [np.zeros((1, 9))], resamples=200)
    assert found.kept is None and found.kept_interval is None


def test_other_queries_or_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="queries"):
        compare([np.ones((2, 3))], [np.ones((2, 4))])
    with pytest.raises(ValueError, match="seeds"):
        compare([np.ones((2, 3))], [np.ones((3, 3))])
