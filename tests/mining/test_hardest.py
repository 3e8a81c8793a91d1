"""The search for the hardest negatives, against a full matrix and the rules read off the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.mining.hardest import Bounds, Hardest, margin
from puma_cli.processes import Processes

SCORES = st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0])


def test_the_margin_lies_below_the_positive_whatever_its_sign() -> None:
    positive = torch.tensor([0.8, 0.0, -0.4])
    assert margin(positive, 0.95).tolist() == pytest.approx([0.76, 0.0, -0.42])
    assert margin(positive, 1.0).tolist() == positive.tolist()
    assert margin(positive, None).tolist() == [math.inf] * 3


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.01, 1))
def test_the_margin_grows_with_the_positive(one: float, other: float, share: float) -> None:
    low, high = margin(torch.tensor(sorted([one, other]), dtype=torch.float64), share).tolist()
    assert low <= high <= max(one, other)


def naive(
    scores: Sequence[float],
    barred: set[int],
    limit: float,
    lowest: float,
    highest: float,
) -> tuple[list[tuple[float, int]], int, int]:
    """Return what is left in order of score and place, what competed, and what was above."""
    others = [(score, place) for place, score in enumerate(scores) if place not in barred]
    kept = [(s, c) for s, c in others if s <= limit and lowest <= s <= highest]
    above = sum(score > limit for score, _ in others)
    return sorted(kept, key=lambda pair: (-pair[0], pair[1])), len(others), above


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[float]], list[set[int]], list[float]]:
    """Scores of queries and candidates, what is barred for each query, and its margin."""
    width = draw(st.integers(1, 25))
    height = draw(st.integers(1, 6))
    rows = st.lists(SCORES, min_size=width, max_size=width)
    return (
        draw(st.lists(rows, min_size=height, max_size=height)),
        [draw(st.sets(st.integers(0, width - 1))) for _ in range(height)],
        [draw(st.one_of(SCORES, st.just(math.inf))) for _ in range(height)],
    )


@settings(max_examples=80)
@given(
    tables(),
    st.integers(1, 9),
    st.integers(1, 12),
    st.sampled_from([-math.inf, 0.0]),
    st.sampled_from([math.inf, 0.5]),
    st.randoms(use_true_random=False),
    st.integers(1, 3),
)
def test_it_is_a_sort_of_the_full_matrix(
    table: tuple[list[list[float]], list[set[int]], list[float]],
    k: int,
    size: int,
    lowest: float,
    highest: float,
    random: object,
    shares: int,
) -> None:
    """Blocks hold any candidates in any order of blocks, and are shared among processes."""
    scores, barred, limits = table
    pairs = [(row, place) for row, places in enumerate(barred) for place in places]
    columns = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)

    def search() -> Hardest:
        # One-hot queries and candidates that hold the scores make every product exact; the
        # queries are rows of a larger table, from the last to the first.
        rows = torch.arange(len(scores)).flip(0)
        bounds = Bounds(torch.tensor(limits), highest, lowest)
        return Hardest(rows, bounds, (columns[:, 0].contiguous(), columns[:, 1].contiguous()), k)

    queries, vectors = torch.eye(len(scores)).flip(0), torch.tensor(scores).T.contiguous()
    order = list(range(len(vectors)))
    random.shuffle(order)  # type: ignore[attr-defined]
    blocks = [sorted(order[start : start + size]) for start in range(0, len(order), size)]
    searches = [search() for _ in range(shares)]
    for number, block in enumerate(blocks):
        places = torch.tensor(block)
        searches[number % shares].add(queries, places, vectors[places])
    found = searches[0]
    found.share(Together(searches))
    for row, line in enumerate(scores):
        expected, others, above = naive(line, barred[row], limits[row], lowest, highest)
        assert found.ranked(row) == expected[:k]
        assert (int(found.others[row]), int(found.above[row])) == (others, above)


class Together(Processes):
    """Searches in one process that exchange what they found as if each had one of its own."""

    def __init__(self, searches: Sequence[Hardest]) -> None:
        super().__init__(0, len(searches))
        self._searches = searches

    def total(self, *tensors: torch.Tensor) -> None:
        for tensor, name in zip(tensors, ("others", "above"), strict=True):
            tensor.copy_(sum(getattr(search, name) for search in self._searches))

    def gather(self, value: object) -> list[object]:  # type: ignore[override]
        return [(search.scores, search.places) for search in self._searches]
