"""How often tasks are shown: counts by their formula, in an order that is even and complete."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.data.batches import BatchOrder
from puma_cli.data.mbeir import TaskName
from puma_cli.data.mixture import Mixture
from puma_cli.data.records import Query
from puma_cli.errors import ConfigError

A, B, C = TaskName("a", 0), TaskName("a", 7), TaskName("b", 0)
SIZES = {A: 60, B: 30, C: 10}
TASKS = [task for task, size in SIZES.items() for _ in range(size)]


@pytest.mark.parametrize(
    ("weights", "balance", "expected"),
    [
        ((), 1.0, (60, 30, 10)),
        ((), 0.0, (34, 33, 33)),
        (("b=9",), 1.0, (33, 17, 50)),  # 60 : 30 : 90
        (("a=0",), 1.0, (0, 0, 100)),
        (("a_task0=0", "a=1"), 0.0, (0, 50, 50)),  # the first that matches counts
        ((), 0.5, (46, 33, 19)),
    ],
)
def test_draws_are_in_proportion(
    weights: tuple[str, ...], balance: float, expected: tuple[int, ...]
) -> None:
    mixture = Mixture(TASKS, weights, balance)
    found = [mixture.draws(task) for task in SIZES]
    assert sum(found) == 100
    assert all(abs(one - other) <= 1 for one, other in zip(found, expected, strict=True))


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    factors=st.lists(st.floats(0.1, 8), min_size=4, max_size=4),
    balance=st.floats(0, 1),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_no_query_comes_twice_more_than_another_of_its_task(
    sizes: list[int], factors: list[float], balance: float, seed: int
) -> None:
    names = [TaskName("d", number) for number in range(len(sizes))]
    tasks = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    weights = [f"{n.name}={f}" for n, f in zip(names, factors, strict=False)]
    mixture = Mixture(tasks, weights, balance)
    groups = {name: [i for i, task in enumerate(tasks) if task == name] for name in names}
    order = mixture.order(groups, np.random.default_rng(seed))
    assert len(order) == len(tasks)
    seen = Counter(order)
    for name in names:
        counts = [seen[i] for i in groups[name]]
        assert sum(counts) == mixture.draws(name)
        assert max(counts) - min(counts) <= 1
        # Evenly mixed: each half of an epoch has half of a task's draws, give or take one.
        half = sum(tasks[i] == name for i in order[: len(order) // 2])
        assert abs(half - mixture.draws(name) / 2) <= 1 + len(names)


def records() -> list[Query]:
    return [
        Query(f"{task.dataset}:{i}", "x", None, "text", task.task_id, (f"c:{i}",))
        for i, task in enumerate(TASKS)
    ]


def test_a_small_task_fills_as_many_batches_as_a_large_one() -> None:
    order = BatchOrder(records(), 10, "task", 0, tasks=TASKS, mixture=Mixture(TASKS, (), 0.0))
    assert order.steps_per_epoch == 9
    batches = [order.batch(step)[1] for step in range(order.steps_per_epoch)]
    kinds = Counter(TASKS[batch[0]] for batch in batches)
    assert kinds == {A: 3, B: 3, C: 3}
    assert all(len({TASKS[i] for i in batch}) == 1 and len(batch) == 10 for batch in batches)


def test_mixed_batches_hold_tasks_as_weighted_in_any_epoch_drawn_alone() -> None:
    mixture = Mixture(TASKS, ("b=9",), 1.0)
    walked, jumped = (
        BatchOrder(records(), 20, "mixed", 3, tasks=TASKS, mixture=mixture) for _ in range(2)
    )
    assert walked.steps_per_epoch == 5
    in_turn = [walked.batch(step)[1] for step in range(15)]
    assert jumped.batch(14)[1] == in_turn[14]
    shares = [sum(TASKS[i] == C for i in batch) for batch in in_turn]
    assert sum(shares) == 150 and min(shares) >= 6


@pytest.mark.parametrize(
    ("weight", "said"),
    [("c=2", "matches no task"), ("a", "is no weight"), ("a=-1", "is no weight"),
     ("a=inf", "is no weight"), ("=2", "is no weight"), ("*=0", "leaves out every task")],
)  # fmt: skip
def test_a_weight_that_means_nothing_is_refused(weight: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Mixture(TASKS, (weight,))


def test_a_weight_behind_those_that_match_all_of_its_tasks_is_refused() -> None:
    assert Mixture(TASKS, ("a_task0=2", "a=3", "*=4")).draws(C) > 10
    with pytest.raises(ConfigError, match="'a_task0', which has no effect"):
        Mixture(TASKS, ("a=2", "a_task0=3"))
