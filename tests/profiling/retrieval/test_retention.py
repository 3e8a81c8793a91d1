"""Retention at every depth, against the plain ratio and an interval known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from puma_cli.profiling.retrieval.retention import retention_curves


def test_shares_are_ratios_of_means_over_tasks() -> None:
    tasks = [np.array([[0, 1, 1], [0, 0, 1.0]]), np.array([[0, 1, 0], [0, 0, 1], [0, 0, 1.0]])]
    (curve,) = retention_curves({"first": tasks}).values()
    full = (1 + 2 / 3) / 2
    assert curve.share == pytest.approx((0.0, (0.5 + 1 / 3) / 2 / full, 1.0))
    # The full model over itself is 1 in every draw.
    assert curve.low[-1] == curve.high[-1] == 1.0
    assert curve.low[0] == curve.high[0] == 0.0


def test_the_interval_is_that_of_a_paired_ratio() -> None:
    """The full model answers all; then the ratio is a mean of coin flips of known spread."""
    generator = np.random.default_rng(0)
    flips = (generator.random(4_000) < 0.6).astype(float)
    hits = np.stack([np.zeros(4_000), flips, np.ones(4_000)], axis=1)
    curve = retention_curves({"first": [hits]}, seed=3)["first"]
    spread = 1.96 * np.sqrt(flips.mean() * (1 - flips.mean()) / 4_000)
    assert curve.low[1] == pytest.approx(flips.mean() - spread, abs=0.1 * spread)
    assert curve.high[1] == pytest.approx(flips.mean() + spread, abs=0.1 * spread)


def test_pairing_takes_out_what_both_share() -> None:
    """A cut that answers just what the full model does keeps all, whichever queries are drawn."""
    flips = (np.random.default_rng(1).random(50) < 0.5).astype(float)
    curve = retention_curves({"first": [np.stack([0 * flips, flips, flips], axis=1)]})["first"]
    assert (curve.low[1], curve.share[1], curve.high[1]) == (1.0, 1.0, 1.0)


def test_too_few_answers_have_no_interval() -> None:
    nothing = np.zeros((5, 3))
    curve = retention_curves({"first": [nothing]})["first"]
    assert curve.share == (None,) * 3 and curve.low == curve.high == (None,) * 3
    one = np.zeros((5, 3))
    one[0] = 1.0
    curve = retention_curves({"first": [one]})["first"]
    # One answered query of five is missing from a third of the draws.
    assert curve.share[1] == 1.0 and curve.low[1] is None and curve.high[1] is None
