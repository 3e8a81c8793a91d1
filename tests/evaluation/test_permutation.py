"""The permutation test against a count of all assignments of signs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from puma_cli.evaluation.permutation import permutation_p

VALUES = st.sampled_from([-1.0, -0.5, 0.0, 0.0, 1 / 3, 1.0])
TASKS = st.lists(st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=3)


def naive(tasks: list[list[float]]) -> float:
    def mean(signs: tuple[int, ...]) -> float:
        left = iter(signs)
        means = [sum(next(left) * d for d in task) / len(task) for task in tasks]
        return sum(means) / len(means)

    count = sum(map(len, tasks))
    seen = abs(mean((1,) * count))
    every = [abs(mean(signs)) >= seen - 1e-12 for signs in product((1, -1), repeat=count)]
    return sum(every) / len(every)


@settings(max_examples=60, deadline=None)
@given(TASKS)
def test_few_queries_are_counted_exactly(tasks: list[list[float]]) -> None:
    found = permutation_p([np.array(task) for task in tasks], 1, 0)
    assert found == pytest.approx(naive(tasks))


def test_by_hand() -> None:
    # Only all signs alike are as far from 0: 2 of 2^5.
    assert permutation_p([np.ones(5)], 1, 0) == 2 / 32
    assert permutation_p([np.array([1.0, -1.0, 0.0])], 1, 0) == 1.0
    assert permutation_p([np.zeros(9)], 1, 0) == 1.0


def drawn(seed: int) -> tuple[list[NDArray[np.float64]], float]:
    """Differences of 18 queries, one more or less than are counted, and the exact p-value."""
    generator = np.random.default_rng(seed)
    tasks = [generator.choice([-1.0, 0.25, 0.75, 1.0], size=9) for _ in range(2)]
    sizes = np.concatenate(tasks)
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums + size, sums - size])
    return tasks, float((np.abs(sums) >= abs(sizes.sum()) - 1e-9).mean())


@pytest.mark.parametrize("seed", range(5))
def test_draws_come_near_the_exact_share(seed: int) -> None:
    tasks, exact = drawn(seed)
    found = permutation_p(tasks, 20_000, seed)
    assert found == pytest.approx(exact, abs=5 * (0.25 / 20_000) ** 0.5)
    assert found == permutation_p(tasks, 20_000, seed)


def test_drawn_values_are_never_zero() -> None:
    assert permutation_p([np.ones(500)], 999, 0) == 1 / 1000
