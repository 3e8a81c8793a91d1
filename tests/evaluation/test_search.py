"""Exact search and ranking against naive references, with ties and several positives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from puma_cli.errors import DataError, NumericError
from puma_cli.evaluation.metrics import hit_rate, ndcg
from puma_cli.evaluation.search import rank_relevant, search
from tests.evaluation import naive


def unit(rows: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def on_a_line(*scores: float) -> torch.Tensor:
    """Unit vectors whose cosine with (1, 0) is each of `scores`."""
    x = torch.tensor(scores, dtype=torch.float64)
    return torch.stack([x, (1 - x**2).sqrt()], dim=1).float()


QUERY = torch.tensor([[1.0, 0.0]])


def test_search_sorts_all_candidates() -> None:
    queries, candidates = unit(7), unit(50, seed=1)
    scores, indices = search(queries, candidates, 10, query_chunk=3, candidate_chunk=8)
    full = queries @ candidates.T
    assert torch.equal(indices, full.argsort(dim=1, descending=True)[:, :10])
    assert torch.allclose(scores, full.gather(1, indices))


def test_search_gives_ties_in_the_order_of_the_pool() -> None:
    candidates = on_a_line(0.5, 1, 0.5, 0.5, 1, 0.5)
    for chunk in (1, 2, 4, 6):
        for k in range(1, 9):
            _, indices = search(QUERY, candidates, k, candidate_chunk=chunk)
            assert indices[0].tolist() == [1, 4, 0, 2, 3, 5][:k]


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5]), min_size=1, max_size=30),
    k=st.integers(1, 31),
    chunk=st.integers(1, 31),
)
def test_search_is_the_same_for_every_chunk_size(scores: list[float], k: int, chunk: int) -> None:
    candidates = torch.tensor(scores)[:, None]
    _, indices = search(torch.ones(1, 1), candidates, k, candidate_chunk=chunk)
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert indices[0].tolist() == expected


def test_no_queries_is_fine_and_no_candidates_is_not() -> None:
    scores, _ = search(torch.empty(0, 4), unit(3, 4), 2)
    assert scores.shape == (0, 2)
    assert rank_relevant(torch.empty(0, 4), unit(3, 4), []).positions.shape == (0, 10)
    for call in (
        lambda: search(unit(1), unit(0), 1),
        lambda: rank_relevant(unit(1), unit(0), [[]]),
    ):
        with pytest.raises(DataError, match="empty"):
            call()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_are_an_error_not_a_perfect_score(value: float) -> None:
    broken = unit(5)
    broken[2, 3] = value
    with pytest.raises(NumericError, match="1 of 5 candidate"):
        rank_relevant(unit(2), broken, [[0], [1]])
    with pytest.raises(NumericError, match="1 of 5 query"):
        search(broken, unit(2), 1)


def test_several_positives_are_ranked_best_first() -> None:
    candidates = on_a_line(0.9, 0.1, 0.8, 0.3, 0.7, 0.6)
    ranks = rank_relevant(QUERY, candidates, [[5, 2, 1]])
    assert ranks.positions[0].tolist() == [2, 4, 6, 0, 0, 0, 0, 0, 0, 0]
    assert ranks.ties.tolist() == [0]
    assert ranks.first.tolist() == [2]


def test_positives_beyond_the_depth_and_repeated_ones_do_not_count() -> None:
    candidates = on_a_line(*np.linspace(0.9, 0.1, 30))
    ranks = rank_relevant(QUERY, candidates, [[*range(30), 3, 3]], depth=4)
    assert ranks.positions.tolist() == [[1, 2, 3, 4]]


def test_a_query_without_positives_ranks_nothing() -> None:
    ranks = rank_relevant(unit(3), unit(6, seed=1), [[], [2], []])
    assert ranks.first[[0, 2]].tolist() == [0, 0]
    assert ranks.ties.tolist() == [0, 0, 0]
    assert 1 <= ranks.first[1] <= 6


def test_ties_count_against_the_model() -> None:
    candidates = on_a_line(0.9, 0.5, 0.5, 0.5, 0.2)
    for positive in (1, 2, 3):
        ranks = rank_relevant(QUERY, candidates, [[positive]])
        assert ranks.first.tolist() == [4]
        assert ranks.ties.tolist() == [2]
    # Relevant candidates that tie with one another do not hurt.
    both = rank_relevant(QUERY, candidates, [[1, 2, 3]])
    assert both.positions[0, :3].tolist() == [2, 3, 4]
    assert both.ties.tolist() == [0]


@pytest.mark.parametrize("width", [1, 7, 192, 1000])
def test_a_collapsed_model_scores_zero(width: int) -> None:
    """Equal vectors give products that differ in their last bits: still ties."""
    point = normalize(torch.rand(1, width), dim=1)
    candidates = point.expand(997, width).contiguous()
    relevant = [[i % 997] for i in range(0, 3000, 13)]
    queries = point.expand(len(relevant), width).contiguous()
    ranks = rank_relevant(queries, candidates, relevant, candidate_chunk=123, query_chunk=50)
    assert (ranks.first == 997).all()
    assert (ranks.ties == 996).all()
    assert hit_rate(ranks.positions, 10).sum() == 0
    assert ndcg(ranks.positions, np.ones(len(relevant)), 10).sum() == 0


cases = st.integers(1, 20).flatmap(
    lambda size: st.lists(
        st.tuples(
            st.lists(st.sampled_from([-0.5, 0.0, 0.25, 0.5]), min_size=size, max_size=size),
            st.sets(st.integers(0, size - 1)),
        ),
        min_size=1,
        max_size=6,
    )
)


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 21), st.integers(1, 7), st.integers(1, 12))
def test_ranks_equal_the_naive_reference(
    rows: list[Any], candidate_chunk: int, query_chunk: int, depth: int
) -> None:
    """The queries are one-hot and the candidates hold the scores, so the product is exact."""
    table = torch.tensor([scores for scores, _ in rows])
    ranks = rank_relevant(
        torch.eye(len(rows)),
        table.T.contiguous(),
        [sorted(relevant) for _, relevant in rows],
        depth=depth,
        candidate_chunk=candidate_chunk,
        query_chunk=query_chunk,
    )
    for q, (scores, relevant) in enumerate(rows):
        expected = naive.relevant_ranks(scores, relevant)[:depth]
        assert ranks.positions[q, : len(expected)].tolist() == expected
        assert not ranks.positions[q, len(expected) :].any()
        tied = [i for i, s in enumerate(scores) if i not in relevant]
        best = max((scores[i] for i in relevant), default=None)
        assert ranks.ties[q] == sum(scores[i] == best for i in tied)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.permutations(range(40)))
def test_ranks_do_not_depend_on_the_order_of_the_pool(
    seed: int, chunk: int, order: list[int]
) -> None:
    queries, candidates = unit(5, seed=seed), unit(40, seed=seed + 1)
    relevant = [[q, q + 7, 30] for q in range(5)]
    moved = torch.empty(40, dtype=torch.long)
    moved[torch.tensor(order)] = torch.arange(40)
    before = rank_relevant(queries, candidates, relevant)
    after = rank_relevant(
        queries,
        candidates[torch.tensor(order)],
        [[int(moved[i]) for i in row] for row in relevant],
        candidate_chunk=chunk,
    )
    assert (before.positions == after.positions).all()
