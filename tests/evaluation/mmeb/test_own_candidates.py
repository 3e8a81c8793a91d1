"""Precision@1 over each query's own candidates, against numpy's argmax row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from puma_cli.evaluation.mmeb.own_candidates import rank_first


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 9), st.booleans())
def test_precision_is_numpys_argmax(seed: int, queries: int, width: int, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    asked = normalize(torch.from_numpy(random.standard_normal((queries, 4))), dim=1).float()
    # A few directions only, so that equal scores come up.
    distinct = random.integers(-1, 2, (20, 4)) if coarse else random.standard_normal((20, 4))
    vectors = torch.from_numpy(distinct).float()
    own = [random.integers(0, 20, width).astype(np.int32) for _ in range(queries)]
    found = rank_first(asked, vectors, own, tie=0.0)
    for row, places in enumerate(own):
        scores = np.array([float((vectors[p] * asked[row]).sum()) for p in places])
        assert (found.ranks[row] == 1) == (np.argmax(scores) == 0)
        assert found.ranks[row] == 1 + (scores > scores[0]).sum()
        others = {int(p) for p, s in zip(places, scores, strict=True) if s == scores[0]}
        alike = len(others - {int(places[0])}) if scores[0] == scores.max() else 0
        assert found.ties[row] == alike


def test_a_candidate_that_comes_twice_ties_with_itself_only_in_name() -> None:
    vectors = normalize(torch.randn(3, 192, generator=torch.Generator().manual_seed(0)), dim=1)
    own = [np.array([1, 0, 1, 2, 1]), np.array([0, 2, 0])]
    found = rank_first(vectors[[1, 0]], vectors, own)
    assert found.ranks.tolist() == [1, 1]
    assert found.ties.tolist() == [0, 0]


@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_constant_embeddings_are_all_ties(noise: float) -> None:
    generator = torch.Generator().manual_seed(1)
    base = normalize(torch.randn(1, 64, generator=generator), dim=1)
    vectors = base + noise * torch.randn(50, 64, generator=generator)
    own = [np.arange(50)[start : start + 10] for start in range(0, 50, 10)]
    found = rank_first(base.expand(5, -1), vectors, own)
    assert found.ties.tolist() == [9] * 5
    if not noise:
        assert found.ranks.tolist() == [1] * 5
