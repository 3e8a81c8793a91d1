"""The best of scores that come in blocks, against a sort of all of them."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from puma_cli.evaluation.top import merged, top

SCORES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=2, max_size=20)


@given(SCORES, st.integers(1, 20), st.integers(1, 19))
def test_two_blocks_have_the_best_of_the_whole(scores: list[float], k: int, cut: int) -> None:
    cut = min(cut, len(scores) - 1)
    parts = []
    for first, part in ((0, scores[:cut]), (cut, scores[cut:])):
        found, where = top(torch.tensor([part]), min(k, len(part)))
        parts.append((found, where + first))
    expected = sorted(enumerate(scores), key=lambda pair: (-pair[1], pair[0]))[:k]
    for one, other in (parts, reversed(parts)):
        found, places = merged(one, other, k)
        assert places[0].tolist() == [place for place, _ in expected]
        assert found[0].tolist() == [score for _, score in expected]


def test_what_does_not_compete_comes_last() -> None:
    scores, places = top(torch.tensor([[-math.inf, 0.25, -math.inf, 0.5, -math.inf]]), 4)
    assert scores[0, :2].tolist() == [0.5, 0.25] and places[0, :2].tolist() == [3, 1]
    assert scores[0, 2:].tolist() == [-math.inf, -math.inf]
