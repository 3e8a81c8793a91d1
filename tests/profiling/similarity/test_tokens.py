"""Sampled tokens, attention sinks and top dimensions against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.errors import NumericError
from puma_cli.profiling.similarity.tokens import ABSENT, is_sink, sample_places, top_dimensions

inputs = st.lists(st.tuples(st.integers(0, 40), st.text(max_size=6)), min_size=1, max_size=8)


def places_of(rows: list[tuple[int, str]], seed: int = 0, each: int = 4) -> list[list[int]]:
    lengths, keys = [row[0] for row in rows], [row[1] for row in rows]
    return sample_places(lengths, keys, seed, each).tolist()


@settings(max_examples=100, deadline=None)
@given(inputs, st.integers(0, 5), st.integers(0, 6))
def test_places_are_inner_distinct_and_as_many_as_there_are(
    rows: list[tuple[int, str]], seed: int, each: int
) -> None:
    found = sample_places([n for n, _ in rows], [key for _, key in rows], seed, each)
    assert found.shape == (len(rows), each) and found.dtype == torch.int64
    for (length, _), row in zip(rows, found.tolist(), strict=True):
        drawn = min(each, max(0, length - 2))
        assert row[drawn:] == [ABSENT] * (each - drawn)
        assert row[:drawn] == sorted(set(row[:drawn]))
        assert all(1 <= place <= length - 2 for place in row[:drawn])


@settings(max_examples=50, deadline=None)
@given(inputs, st.integers(0, 5))
def test_places_depend_on_seed_and_key_alone(rows: list[tuple[int, str]], seed: int) -> None:
    alone = [places_of([row], seed)[0] for row in rows]
    assert places_of(rows, seed) == alone
    assert places_of(rows[::-1], seed) == alone[::-1]


def test_seeds_and_keys_draw_differently_but_always_the_same() -> None:
    many = [(1000, f"key {n}") for n in range(20)]
    assert len({tuple(row) for row in places_of(many)}) == 20
    assert places_of(many, seed=1) != places_of(many, seed=2)
    # Pinned, so that a profile made again later has the same tokens.
    assert places_of([(1000, "a"), (12, "b"), (4, "c"), (2, "d")]) == [
        [14, 374, 420, 651],
        [1, 2, 5, 6],
        [1, 2, ABSENT, ABSENT],
        [ABSENT] * 4,
    ]


def test_every_inner_place_is_drawn_as_often() -> None:
    found = places_of([(10, str(n)) for n in range(2000)])
    counts = torch.tensor(found).flatten().bincount(minlength=10).tolist()
    assert counts[0] == counts[9] == 0
    # 2000 draws of 4 in 8 places: 1000 each, with a standard deviation of 22.
    assert all(abs(count - 1000) < 5 * 22.4 for count in counts[1:9])


def test_one_key_for_each_length() -> None:
    with pytest.raises(ValueError, match="zip"):
        sample_places([5, 6], ["a"], 0)


def naive_sink(row: list[list[float]]) -> bool:
    shares = [max(v * v for v in state) / math.fsum(v * v for v in state) for state in row[1:]]
    return any(share > 0.5 for share in shares)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 6))
def test_sinks_are_those_of_the_naive_rule(seed: int, depths: int, width: int) -> None:
    states = torch.randn(depths, 9, width, generator=torch.Generator().manual_seed(seed))
    found = is_sink(states)
    rows = states.double().transpose(0, 1).tolist()
    assert found.tolist() == [naive_sink(row) for row in rows]
    # A rule about the row alone.
    assert torch.equal(is_sink(states[:, 3:5]), found[3:5])


def test_sink_at_any_depth_but_the_embedding() -> None:
    states = torch.ones(4, 5, 64)
    states[0, 0, 9] = 1e3
    states[1, 1, 9] = -1e3
    states[3, 2, 0] = 1e3
    states[2, 3, 5] = 63**0.5 * 0.99
    states[2, 4, 5] = 63**0.5 * 1.01
    assert is_sink(states).tolist() == [False, True, True, False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_coordinate_whose_square_overflows_is_a_sink(dtype: torch.dtype) -> None:
    states = torch.ones(2, 2, 8, dtype=dtype)
    states[1, 1, 3] = 0.9 * min(torch.finfo(dtype).max, 1e30)
    assert is_sink(states).tolist() == [False, True]


@pytest.mark.parametrize(("others", "sink"), [(1022, True), (1024, False)])
def test_low_precision_does_not_blur_the_bound(others: int, sink: bool) -> None:
    states = torch.ones(2, 1, others + 1, dtype=torch.bfloat16)
    states[1, 0, 5] = 32.0
    assert is_sink(states).tolist() == [sink]


def test_half_of_the_energy_is_not_more_than_half() -> None:
    states = torch.zeros(2, 3, 4)
    states[:, 0, :2] = 5.0
    states[1, 1] = torch.tensor([math.nan, 1.0, 1.0, 1.0])
    # A zero and a broken row are refused where they are measured, by the name of their layer.
    assert is_sink(states).tolist() == [False, False, False]


def naive_top(states: torch.Tensor, count: int) -> list[int]:
    best = [0.0] * states.shape[2]
    for layer in states.double().tolist():
        for d in range(len(best)):
            shares = [row[d] ** 2 / math.fsum(v * v for v in row) for row in layer]
            best[d] = max(best[d], math.fsum(shares) / len(shares))
    return sorted(range(len(best)), key=lambda d: -best[d])[:count]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from([0.01, 0.1, 0.34, 1.0]))
def test_top_dimensions_are_those_of_the_naive_rule(seed: int, width: int, share: float) -> None:
    states = torch.randn(3, 7, width, generator=torch.Generator().manual_seed(seed))
    count = max(1, math.ceil(round(share * width, 6)))
    assert top_dimensions(states, share).tolist() == naive_top(states, count)


@pytest.mark.parametrize(
    ("share", "width", "count"), [(0.01, 3584, 36), (0.01, 100, 1), (0.07, 100, 7), (0.01, 5, 1)]
)
def test_share_is_rounded_up(share: float, width: int, count: int) -> None:
    assert len(top_dimensions(torch.randn(2, 3, width), share)) == count


def test_one_depth_is_enough_and_long_rows_count_no_more_than_short_ones() -> None:
    states = torch.ones(3, 10, 50)
    # Dimension 30 in every row of one depth; 7 in one row alone, but there beyond all measure.
    states[1, :, 30] = 10.0
    states[2, 4, 7] = 1e6
    assert top_dimensions(states, 0.04).tolist() == [30, 7]


def test_ties_go_to_the_lower_index() -> None:
    assert top_dimensions(torch.ones(2, 3, 200), 0.02).tolist() == [0, 1, 2, 3]


def test_half_precision_does_not_overflow() -> None:
    states = torch.full((2, 3, 10), 3e4, dtype=torch.float16)
    states[1, :, 6] = 6e4
    assert top_dimensions(states).tolist() == [6]


def test_broken_states_are_refused() -> None:
    states = torch.randn(3, 4, 5)
    states[2, 1, 1] = math.nan
    with pytest.raises(NumericError, match="decoder layer 1 is not finite"):
        top_dimensions(states)
