"""The recommended depth on curves whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from puma_cli.errors import ConfigError
from puma_cli.profiling.recommendation import choice as recommendation
from puma_cli.profiling.recommendation.aims import Aims
from puma_cli.profiling.recommendation.curves import Best, Curves, find_knee
from puma_cli.profiling.recommendation.explained_choice import Choice
from puma_cli.profiling.retrieval.retention import Retention
from tests.profiling.examples import profile

ELBOW = (0.0, 0.10, 0.25, 0.41, 0.47, 0.49, 0.51, 0.56, 0.62, 0.68, 0.72, 0.75, 0.78)


def choose(
    curve: Sequence[float],
    *,
    bridged: Sequence[float] | None = None,
    predicted: Retention | None = None,
    **rest: Any,
) -> Choice:
    return recommendation.choose(Curves(curve, bridged, predicted), **rest)


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
    for part in ("Through a linear head", "47.0 of 78.0", "60%", "no smaller depth keeps 90%"):
        assert part in choice.reason
    # What needs no training is read off the untrained curve, whatever a bridge would give.
    assert choice.untrained_k == 12


def test_one_layer() -> None:
    assert choose([0.0, 0.5], queries=10).rule == "whole"


def predicted(*shares: float, width: float = 0.03) -> Retention:
    low = [max(0.0, share - width) for share in shares[:-1]]
    high = [share + width for share in shares[:-1]]
    return Retention(shares, (*low, 1.0), (*high, 1.0))


CURVE = (0.0, 0.1, 0.3, 0.45, 0.6, 0.7)
KEPT = predicted(0.2, 0.6, 0.85, 0.92, 0.97, 1.0)


def test_the_smallest_depth_predicted_to_reach_the_target() -> None:
    choice = choose(CURVE, queries=1600, aims=Aims(retention=0.9), predicted=KEPT)
    assert (choice.k, choice.rule, choice.retention) == (3, "target", 0.9)
    for part in ("k = 3 is the smallest", "keep 90%", "keep 92% (89 to 95)", "Untrained it keeps"):
        assert part in choice.reason
    # The interval of k = 3 does not reach it as a whole.
    assert choice.runner_up == 4 and "cautious" in choice.runner_up_reason


def test_the_runner_up_is_cheaper_where_the_choice_is_safe() -> None:
    choice = choose(CURVE, queries=1600, aims=Aims(retention=0.88), predicted=KEPT)
    assert (choice.k, choice.runner_up) == (3, 2)
    assert "k = 2 is cheaper and is predicted to keep 85%" in choice.runner_up_reason


def test_a_target_that_no_cut_reaches() -> None:
    choice = choose(CURVE, queries=1600, aims=Aims(retention=0.995), predicted=KEPT)
    assert (choice.k, choice.rule, choice.runner_up) == (5, "unmet", 4)
    assert "No cut is predicted to keep 99.5%" in choice.reason
    aims = Aims(retention=0.995, latency=4.5)
    tight = choose(CURVE, queries=1600, aims=aims, costs=profile().costs[:5], predicted=KEPT)
    assert (tight.rule, tight.runner_up) == ("unmet", 2)


def test_a_budget_below_the_target() -> None:
    costs = profile().costs[:5]
    aims = Aims(retention=0.95, latency=5.0)
    choice = choose(CURVE, queries=1600, aims=aims, costs=costs, predicted=KEPT)
    assert (choice.k, choice.rule, choice.runner_up) == (3, "budget", 4)
    assert "the most within 5 ms a query" in choice.reason
    assert "short of the 95%" in choice.reason


def test_a_budget_above_the_target_is_not_used_up() -> None:
    costs = profile().costs[:5]
    aims = Aims(retention=0.8, latency=6.5)
    assert choose(CURVE, queries=1600, aims=aims, costs=costs, predicted=KEPT).k == 2


def test_a_budget_alone_is_used_up() -> None:
    costs = profile().costs[:5]
    choice = choose(CURVE, queries=1600, aims=Aims(latency=6.5), costs=costs, predicted=KEPT)
    assert (choice.k, choice.rule) == (4, "budget")
    assert "predicted to keep 97%" in choice.reason
    whole = choose(CURVE, queries=1600, aims=Aims(latency=99.0), costs=costs)
    assert (whole.k, whole.rule) == (5, "whole")


def test_a_budget_that_no_cut_keeps_within() -> None:
    aims = Aims(retention=0.9, latency=0.1)
    for curve in (CURVE, [0.5] * 6):
        choice = choose(curve, queries=1600, aims=aims, costs=profile().costs[:5])
        assert (choice.k, choice.rule) == (1, "unmet")
        assert "even with one decoder layer" in choice.reason and "3.00 ms" in choice.reason


def test_a_model_at_chance_keeps_within_the_budget() -> None:
    curve, costs = [0.001] * 29, profile().costs[:5]
    choice = choose(curve, queries=1000, aims=Aims(latency=5.0), costs=costs)
    assert (choice.k, choice.rule) == (3, "budget")
    assert "gives k = 12 of 28, but k = 3 is the most in 5 ms" in choice.reason


def test_without_a_prediction_the_target_is_held_against_the_readout() -> None:
    choice = choose(ELBOW, queries=1600, aims=Aims(retention=0.9))
    assert (choice.k, choice.rule) == (10, "readout")
    assert "without training" in choice.reason and "nothing predicts how far" in choice.reason
    bridged = [min(0.78, 1.45 * value) for value in ELBOW]
    choice = choose(ELBOW, queries=1600, aims=Aims(retention=0.9), bridged=bridged)
    assert (choice.k, choice.rule) == (5, "readout")
    assert "keeps 90% of the full model's mean hit@1 through a linear head" in choice.reason
    late = choose([0.0] * 28 + [0.9], queries=1000, aims=Aims(retention=0.9))
    assert (late.k, late.rule, late.runner_up) == (28, "unmet", None)


def test_the_knee_says_what_is_predicted_and_what_comes_next() -> None:
    shares = [0.0, *(0.5 + 0.04 * k for k in range(1, 12)), 1.0]
    choice = choose(ELBOW, queries=1600, predicted=predicted(*shares))
    assert (choice.k, choice.rule, choice.runner_up) == (4, "knee", 3)
    assert "predicted to keep 66% (63 to 69)" in choice.reason
    assert "underestimates" not in choice.reason
    assert "predicted to keep 62%" in choice.runner_up_reason
    assert "within the noise" in choice.runner_up_reason


def test_no_runner_up_lies_below_the_line() -> None:
    curve = [0.0, 0.05, 0.5, 0.52, 0.6]
    choice = choose(curve, queries=100_000, bridged=curve)
    assert (choice.k, choice.runner_up) == (2, 3)
    assert choose([0.0, 0.05, 0.5, 0.3, 0.6], queries=100_000).runner_up is None


def test_the_last_layer_stays_where_that_reads_out_better() -> None:
    last = (0.0, 0.0, 0.20, 0.30, 0.62, 0.66, 0.68, 0.69, 0.70, 0.72, 0.74, 0.77, 0.78)
    choice = choose(ELBOW, queries=1600, keep_last=Curves(last))
    assert (choice.k, choice.keep_last, choice.rule) == (4, True, "knee")
    for part in ("62.0 of 78.0", "Of 4 layers, the first 3 and the very last", "against 47.0"):
        assert part in choice.reason
    # A lead within the noise is none, and shallow cuts are better off with their own layers.
    barely = [value + 0.005 for value in ELBOW[:-1]] + [ELBOW[-1]]
    assert not choose(ELBOW, queries=1600, keep_last=Curves(barely)).keep_last
    assert choose(ELBOW, queries=1_000_000, keep_last=Curves(barely)).keep_last


def test_depths_stand_for_the_better_of_their_cuts() -> None:
    last = Curves((0.0, 0.0, 0.5, 0.6, 0.65, 0.7), None, predicted(0.0, 0.0, 0.93, 0.95, 0.98, 1.0))
    aims = Aims(retention=0.9)
    choice = choose(CURVE, queries=1600, keep_last=last, aims=aims, predicted=KEPT)
    assert (choice.k, choice.keep_last) == (2, True)
    assert "keep 93% (90 to 96)" in choice.reason
    alone = choose(CURVE, queries=1600, aims=aims, predicted=KEPT)
    assert (alone.k, alone.keep_last) == (3, False)


def test_the_last_layer_alone_is_no_cut_and_the_whole_model_is_both() -> None:
    best = Best(Curves((0.0, 0.1, 0.2, 0.3)), Curves((0.9, 0.9, 0.9, 0.9)), 0.0)
    assert best.keeps_last == (False, False, True, False)


def test_what_needs_no_training_is_asked_of_the_untrained_cuts() -> None:
    first = Curves((0.0, 0.1, 0.58, 0.60), (0.0, 0.1, 0.50, 0.60))
    last = Curves((0.0, 0.0, 0.20, 0.60), (0.0, 0.0, 0.57, 0.60))
    choice = recommendation.choose(first, keep_last=last, queries=100_000)
    assert (choice.k, choice.rule, choice.keep_last) == (2, "untrained", False)
    assert "58.0 of 60.0" in choice.reason


def test_of_two_layers_there_is_no_other_cut_to_bridge() -> None:
    kept = predicted(0.0, 0.95, 1.0)
    first, last = Curves((0.0, 0.3, 0.6), (0.0, 0.5, 0.6), kept), Curves((0.0, 0.0, 0.6))
    choice = recommendation.choose(first, keep_last=last, queries=1600, aims=Aims(retention=0.9))
    assert (choice.k, choice.rule) == (1, "target")


@pytest.mark.parametrize("retention", [0.0, -1.0, 1.1])
def test_illegal_retention(retention: float) -> None:
    with pytest.raises(ConfigError, match="retention"):
        choose(ELBOW, queries=10, aims=Aims(retention=retention))


@pytest.mark.parametrize("depth", range(2, 30))
def test_always_a_real_cut(depth: int) -> None:
    for curve in ([0.0] * depth + [1.0], [k / depth for k in range(depth + 1)]):
        assert 1 <= choose(curve, queries=50).k < depth
