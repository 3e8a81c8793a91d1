"""Bounds on what a cut may cost."""

from __future__ import annotations

import pytest

from puma_cli.errors import ConfigError
from puma_cli.profiling.recommendation.aims import NO_AIMS, Aims
from tests.profiling.examples import profile


@pytest.mark.parametrize(
    ("aims", "deepest"),
    [
        (NO_AIMS, 12),
        (Aims(parameters=2_800_192), 4),
        (Aims(parameters=2_800_191), 3),
        (Aims(latency=7.0), 5),
        (Aims(parameters=2_800_192, latency=5.5), 3),
        (Aims(parameters=10**9, latency=10**9), 12),
        (Aims(latency=0.5), 0),
    ],
)
def test_the_deepest_cut_within_the_bounds(aims: Aims, deepest: int) -> None:
    assert aims.affordable(profile().costs) == deepest


def test_a_bound_that_nothing_keeps_within_is_refused_at_once() -> None:
    parts = profile().parts
    Aims(parameters=parts.at(1)).check(parts)
    with pytest.raises(ConfigError, match=r"No cut keeps within 1\.00 k parameters") as caught:
        Aims(parameters=1_000).check(parts)
    assert "1.75 M" in caught.value.cause


def test_bounds_in_words() -> None:
    assert Aims(parameters=4 * 10**9, latency=20.0).budget == "4.00 B parameters and 20 ms a query"
