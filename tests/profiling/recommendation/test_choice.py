"""The recommended depth on curves whose answer is known."""

from __future__ import annotations

import pytest

from puma_cli.errors import ConfigError
from puma_cli.profiling.recommendation.choice import choose, find_knee

ELBOW = (0.0, 0.10, 0.25, 0.41, 0.47, 0.49, 0.51, 0.56, 0.62, 0.68, 0.72, 0.75, 0.78)


def test_knee_of_two_straight_lines() -> None:
    curve = [min(0.2 * k, 0.6 + 0.02 * (k - 3)) for k in range(11)]
    knee, height = find_knee(curve)
    assert knee == 3
    assert height == pytest.approx(0.6 - curve[-1] * 0.3)


def test_equal_depths_resolve_to_the_deeper_within_noise() -> None:
    assert find_knee(ELBOW)[0] == 3
    assert find_knee(ELBOW, noise=0.01)[0] == 4
    assert choose(ELBOW, queries=1600).k == 4
    assert choose(ELBOW, queries=1_000_000).k == 3


def test_knee_reason_names_the_numbers() -> None:
    choice = choose(ELBOW, queries=1600)
    assert choice.rule == "knee"
    assert choice.untrained_k == 10
    for part in ("47.0 of 78.0", "60%", "underestimates", "90% takes k = 10"):
        assert part in choice.reason


def test_readout_that_only_rises_at_the_end_says_so() -> None:
    choice = choose([0.0] * 28 + [0.9], queries=1000)
    assert (choice.k, choice.rule) == (12, "share")
    assert "says little" in choice.reason
    assert choice.untrained_k == 28


def test_straight_line_has_no_knee() -> None:
    assert choose([k / 10 for k in range(9)], queries=500).rule == "share"


def test_model_at_chance() -> None:
    choice = choose([0.001, 0.002, 0.001, 0.002, 0.0015], queries=1000)
    assert choice.rule == "share"
    assert "near chance" in choice.reason


def test_score_of_zero_everywhere() -> None:
    assert choose([0.0] * 5, queries=100).rule == "share"


def test_aim_met_untrained_is_cheaper_than_the_knee() -> None:
    choice = choose([0.0, 0.2, 0.72, 0.8, 0.9, 0.8, 0.78, 0.76], queries=1000)
    assert (choice.k, choice.rule) == (2, "untrained")
    assert "meets the aim of 90%" in choice.reason


def test_the_knee_is_that_of_the_bridged_curve() -> None:
    late = [0.5 * k / 12 for k in range(12)] + [0.78]
    assert choose(late, queries=1600).rule == "share"
    choice = choose(late, queries=1600, bridged=ELBOW)
    assert (choice.k, choice.rule) == (4, "knee")
    for part in ("Read through a linear head", "47.0 of 78.0", "60%", "no smaller depth keeps 90%"):
        assert part in choice.reason
    # What needs no training is read off the untrained curve, whatever a bridge would give.
    assert choice.untrained_k == 12


def test_one_layer() -> None:
    assert choose([0.0, 0.5], queries=10).rule == "whole"


@pytest.mark.parametrize("retention", [0.0, -1.0, 1.1])
def test_illegal_retention(retention: float) -> None:
    with pytest.raises(ConfigError, match="retention"):
        choose(ELBOW, queries=10, retention=retention)


@pytest.mark.parametrize("depth", range(2, 30))
def test_always_a_real_cut(depth: int) -> None:
    for curve in ([0.0] * depth + [1.0], [k / depth for k in range(depth + 1)]):
        assert 1 <= choose(curve, queries=50).k < depth
