"""Batch order: deterministic, complete, grouped as asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.data.batches import BatchOrder
from puma_cli.data.records import Query
from puma_cli.errors import ConfigError, DataError


def queries(count: int, tasks: int = 3, family: int = 4) -> list[Query]:
    """Queries in families: each one's hard negatives are its siblings' positives."""
    out = []
    for index in range(count):
        start = index - index % family
        siblings = [f"1:{other}" for other in range(start, start + family) if other != index]
        out.append(
            Query(f"q{index}", "x", None, "text", (index // family) % tasks, (f"1:{index}",),
                  tuple(siblings))
        )  # fmt: skip
    return out


@given(
    count=st.integers(8, 60),
    size=st.integers(2, 8),
    grouping=st.sampled_from(["mixed", "query", "task"]),
    neighbours=st.booleans(),
    seed=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_an_epoch_shows_each_query_at_most_once(
    count: int, size: int, grouping: str, neighbours: bool, seed: int
) -> None:
    records = queries(count, tasks=1)
    order = BatchOrder(records, size, grouping, seed, neighbours)
    for epoch in (0, 1):
        seen = []
        for step in range(order.steps_per_epoch):
            at, batch = order.batch(epoch * order.steps_per_epoch + step)
            assert at == epoch and len(batch) == size
            seen += batch
        assert len(seen) == len(set(seen)) == count // size * size


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize("grouping", ["mixed", "query", "task"])
def test_any_step_can_be_drawn_without_the_ones_before(grouping: str, neighbours: bool) -> None:
    walked, jumped = (BatchOrder(queries(60), 5, grouping, 7, neighbours) for _ in range(2))
    steps = 2 * walked.steps_per_epoch + 3
    in_turn = [walked.batch(step) for step in range(steps)]
    assert jumped.batch(steps - 1) == in_turn[-1]
    assert jumped.batch(1) == in_turn[1]


def test_epochs_and_seeds_differ() -> None:
    first = BatchOrder(queries(60), 5, "mixed", seed=0)
    other = BatchOrder(queries(60), 5, "mixed", seed=1)
    assert first.batch(0)[1] != first.batch(first.steps_per_epoch)[1]
    assert first.batch(0)[1] != other.batch(0)[1]


@pytest.mark.parametrize("neighbours", [False, True])
def test_a_grouped_batch_holds_one_task_or_one_modality_of_queries(neighbours: bool) -> None:
    texts = queries(96)
    images = [
        replace(query, qid=f"i{query.qid}", modality="image", task_id=query.task_id + 3)
        for query in queries(96)
    ]
    records = [*texts, *images]
    found = {}
    for grouping in ("mixed", "query", "task"):
        order = BatchOrder(records, 8, grouping, 0, neighbours)
        batches = [order.batch(step)[1] for step in range(order.steps_per_epoch)]
        found[grouping] = (
            max(len({records[index].modality for index in batch}) for batch in batches),
            max(len({records[index].task_id for index in batch}) for batch in batches),
        )
    assert found["mixed"][0] == 2
    assert found["query"][0] == 1
    assert found["query"][1] > 1
    assert found["task"] == (1, 1)


def test_a_grouped_batch_holds_one_data_set() -> None:
    records = [replace(query, qid=f"{n % 3}:{n}") for n, query in enumerate(queries(96, tasks=1))]
    order = BatchOrder(records, 8, "task", seed=0)
    batches = [order.batch(step)[1] for step in range(order.steps_per_epoch)]
    assert len(batches) == 12
    assert all(len({index % 3 for index in batch}) == 1 for batch in batches)


def test_neighbours_meet_in_a_batch() -> None:
    """Families of four fill batches of eight, so every query meets all its siblings."""
    records = queries(96)
    order = BatchOrder(records, 8, "task", seed=0, neighbours=True)
    for step in range(order.steps_per_epoch):
        batch = order.batch(step)[1]
        positives = {records[index].positives[0] for index in batch}
        assert all(set(records[index].negatives) <= positives for index in batch)


def test_what_cannot_be_filled_is_an_error() -> None:
    with pytest.raises(DataError, match="do not fill one batch of 8"):
        BatchOrder(queries(4), 8, "mixed", 0)
    with pytest.raises(ConfigError, match="'tasks' is no way"):
        BatchOrder(queries(4), 2, "tasks", 0)
    with pytest.raises(ConfigError, match=r"batch\.size is 1"):
        BatchOrder(queries(4), 1, "mixed", 0)
