"""Which layers stay, against a search by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ablations.layers import evenly, layers_of, most_influential, most_similar_out

from puma_cli.errors import ConfigError


@pytest.mark.parametrize("depth", [4, 12, 28])
def test_even_layers_have_the_ends_and_gaps_that_differ_by_one_at_most(depth: int) -> None:
    for k in range(2, depth + 1):
        layers = evenly(k, depth)
        assert len(set(layers)) == k and layers[0] == 0 and layers[-1] == depth - 1
        gaps = np.diff(layers)
        assert gaps.max() - gaps.min() <= 1
    assert evenly(1, depth) == (0,) and evenly(depth, depth) == tuple(range(depth))


def test_the_layers_that_change_most_stay() -> None:
    influence = [0.8, 0.1, 0.3, 0.05, 0.3, 0.5]
    assert most_influential(influence, 3) == (0, 2, 5)
    best = max(itertools.combinations(range(6), 4), key=lambda c: sum(influence[i] for i in c))
    assert most_influential(influence, 4) == best


def test_the_block_between_the_most_similar_states_goes() -> None:
    cka = np.random.default_rng(0).random((9, 9)).tolist()
    for k in range(1, 8):
        kept = most_similar_out(cka, k)
        gone = 8 - k
        first = max(range(1, k + 1), key=lambda start: cka[start][start + gone])
        assert kept == tuple(i for i in range(8) if i not in range(first, first + gone))
        assert len(kept) == k and 0 in kept
    assert most_similar_out(cka, 8) == tuple(range(8))


def test_ways_to_cut() -> None:
    assert layers_of("first 3", 12) == (0, 1, 2)
    assert layers_of("keep-last 3", 12) == (0, 1, 11)
    assert layers_of("even 3", 12) == (0, 6, 11)
    assert layers_of("layers 0-1,5", 12) == (0, 1, 5)
    assert layers_of("whole", 3) == (0, 1, 2)
    with pytest.raises(ConfigError, match="more than"):
        layers_of("first 13", 12)
