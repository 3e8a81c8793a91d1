"""Metrics against hand-made cases, a naive reference and trec_eval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.errors import ConfigError
from puma_cli.evaluation.metrics import (
    first_rank,
    from_first_rank,
    hit_rate,
    ndcg,
    reciprocal_rank,
)
from tests.evaluation import naive


def test_hit_rate_counts_a_query_once_however_many_positives_it_has() -> None:
    ranks = [[1, 2, 3], [6, 9, 0], [2, 7, 0], [0, 0, 0]]
    assert hit_rate(ranks, 1).tolist() == [1, 0, 0, 0]
    assert hit_rate(ranks, 5).tolist() == [1, 0, 1, 0]
    assert hit_rate(ranks, 10).tolist() == [1, 1, 1, 0]


def test_the_first_rank_is_found_in_any_order_and_suffices() -> None:
    ranks = [[9, 2, 0], [0, 0, 0], [0, 4, 4]]
    assert first_rank(ranks).tolist() == [2, 0, 4]
    assert first_rank(np.zeros((2, 0), dtype=int)).tolist() == [0, 0]
    for k in (1, 2, 3, 4, 10):
        assert hit_rate(first_rank(ranks), k).tolist() == hit_rate(ranks, k).tolist()


def test_reciprocal_rank_stops_at_the_cutoff() -> None:
    assert reciprocal_rank([[3, 4], [11, 12], [10, 0], [0, 0]], 10).tolist() == [1 / 3, 0, 0.1, 0]


def test_ndcg_by_hand() -> None:
    # Two of three judged positives found, at ranks 1 and 3; the third is missing from the pool.
    gain = 1 + 1 / math.log2(4)
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg([[1, 3, 0]], [3], 10) == pytest.approx([gain / best])
    assert ndcg([[1, 2]], [2], 10) == pytest.approx([1.0])
    assert ndcg([[11, 12]], [2], 10).tolist() == [0.0]
    assert ndcg([[0, 0]], [0], 10).tolist() == [0.0]
    assert ndcg([list(range(1, 11))], [40], 10) == pytest.approx([1.0])


@pytest.mark.parametrize("metric", ["recall@5", "hit", "hit@0", "hit@-1", "hit@x", "ndcg@10", ""])
def test_unknown_metrics_are_refused_by_name(metric: str) -> None:
    with pytest.raises(ConfigError, match="metric"):
        from_first_rank(metric, [1])


def test_cutoffs_below_one_are_refused() -> None:
    for call in (hit_rate, reciprocal_rank):
        with pytest.raises(ConfigError, match="at least 1"):
            call([1], 0)


pools = st.integers(1, 25).flatmap(
    lambda size: st.tuples(
        st.permutations(range(size)),
        st.sets(st.integers(0, size - 1)),
        st.integers(0, 4),
    )
)


@settings(max_examples=60, deadline=None)
@given(st.lists(pools, min_size=1, max_size=6), st.integers(1, 12))
def test_metrics_equal_the_naive_reference_and_trec_eval(queries: list[Any], k: int) -> None:
    width = max([1, *(len(relevant) for _, relevant, _ in queries)])
    ranks = np.zeros((len(queries), width), dtype=int)
    judged = np.zeros(len(queries), dtype=int)
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for q, (order, relevant, missing) in enumerate(queries):
        found = [place for place, i in enumerate(order, 1) if i in relevant]
        ranks[q, : len(found)] = found
        judged[q] = len(relevant) + missing
        # The last judgement keeps a query without relevant candidates in trec_eval's account.
        qrels[str(q)] = {f"c{i}": 1 for i in relevant} | {f"m{i}": 1 for i in range(missing)}
        qrels[str(q)]["other"] = 0
        run[str(q)] = {f"c{i}": float(-place) for place, i in enumerate(order)}
    measured = {
        "success": hit_rate(ranks, k),
        "recip_rank": reciprocal_rank(ranks, 1000),
        "ndcg_cut": ndcg(ranks, judged, k),
    }
    measures = {f"success.{k}", "recip_rank", f"ndcg_cut.{k}"}
    reference = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    for q, (order, relevant, _) in enumerate(queries):
        theirs = reference[str(q)]
        assert measured["success"][q] == theirs[f"success_{k}"] == naive.hit(order, relevant, k)
        assert measured["recip_rank"][q] == pytest.approx(theirs["recip_rank"])
        assert measured["ndcg_cut"][q] == pytest.approx(theirs[f"ndcg_cut_{k}"])
        assert measured["ndcg_cut"][q] == pytest.approx(
            naive.ndcg(order, relevant, int(judged[q]), k)
        )
        assert reciprocal_rank(ranks, k)[q] == pytest.approx(naive.reciprocal(order, relevant, k))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_metrics_grow_with_the_cutoff_and_stay_in_bounds(ranks: list[int]) -> None:
    for name in ("hit", "mrr"):
        before = np.zeros(len(ranks))
        for k in (1, 2, 5, 10, 100):
            values = from_first_rank(f"{name}@{k}", ranks)
            assert ((values >= before) & (values <= 1)).all()
            before = values
