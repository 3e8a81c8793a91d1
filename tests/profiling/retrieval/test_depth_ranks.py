"""Ranks from candidates that pass by, against the ranks of the whole pool at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from puma_cli.evaluation.search import rank_relevant
from puma_cli.profiling.retrieval.depth_ranks import RANKED, DepthRanks, wanted_scores

DEPTHS = 3


def unit(seed: int, rows: int, coarse: bool) -> Tensor:
    """Unit vectors (K, N, D); coarse ones repeat, so that there are ties."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(DEPTHS, rows, 4, generator=generator)
    return normalize(drawn.sign() if coarse else drawn, dim=-1)


@given(
    st.integers(0, 10**6),
    st.lists(st.sets(st.integers(0, 14), max_size=12), min_size=1, max_size=6),
    st.lists(st.integers(1, 14), max_size=4, unique=True),
    st.booleans(),
)
def test_as_if_all_were_ranked_at_once(
    seed: int, relevant: list[set[int]], cuts: list[int], coarse: bool
) -> None:
    queries, candidates = unit(seed, len(relevant), coarse), unit(seed + 1, 15, coarse)
    wanted = [sorted(row) for row in relevant]
    ranks = DepthRanks(wanted_scores(queries, candidates, wanted))
    bounds = [0, *sorted(cuts), 15]
    for start, stop in pairwise(bounds):
        pairs = [(q, c - start) for q, row in enumerate(wanted) for c in row if start <= c < stop]
        rows, columns = (torch.tensor([pair[i] for pair in pairs]).long() for i in (0, 1))
        scores = queries @ candidates[:, start:stop].transpose(1, 2)
        ranks.add(scores, (rows, columns))
    found = ranks.positions()
    for k in range(DEPTHS):
        expected = rank_relevant(queries[k], candidates[k], wanted, depth=RANKED).positions
        ours = np.zeros_like(expected)
        ours[:, : found.shape[2]] = found[k]
        np.testing.assert_array_equal(ours, expected)


def test_candidates_may_be_the_same_at_every_depth() -> None:
    queries, candidates = unit(0, 4, False), unit(1, 9, False)[:1]
    wanted = [[0, 3], [], [8], [2]]
    found = wanted_scores(queries, candidates, wanted)
    spread = wanted_scores(queries, candidates.expand(DEPTHS, -1, -1), wanted)
    assert torch.equal(found, spread) and found.shape == (DEPTHS, 4, 2)
    expected = (queries[1, 0] * candidates[0, [0, 3]]).sum(-1).sort(descending=True).values
    torch.testing.assert_close(found[1, 0], expected)
    assert found[:, 1].isinf().all() and found[:, 2, 1].isinf().all()


@pytest.mark.parametrize("places", [1, 12])
def test_no_more_than_ten_relevant_candidates_are_ranked(places: int) -> None:
    scores = wanted_scores(unit(0, 1, False), unit(1, 12, False), [list(range(places))])
    assert DepthRanks(scores).positions().shape == (DEPTHS, 1, min(places, RANKED))
