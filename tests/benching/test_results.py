"""What follows from measured seconds."""

import json

import numpy as np
import pytest

from puma_cli.benching.names import short_names
from puma_cli.benching.results import spread_of
from tests.benching.benches import make_bench, make_model


def test_a_spread_is_the_quartiles() -> None:
    values = [3.0, 1.0, 7.0, 2.0, 9.0, 4.0]
    found = spread_of(values)
    expected = np.quantile(values, [0.5, 0.25, 0.75])
    assert (found.median, found.low, found.high) == pytest.approx(tuple(expected))
    assert found.half == pytest.approx((expected[2] - expected[1]) / 2)
    assert spread_of([2.0]) == spread_of([2.0, 2.0, 2.0])


def test_rates_and_costs_follow_from_seconds() -> None:
    model = make_model("a", seconds=0.01)
    side = model.candidate
    assert side.per_second.median == pytest.approx(100)
    assert side.per_second.low < side.per_second.median < side.per_second.high
    assert side.tokens_per_second == pytest.approx(100 * side.tokens)
    assert side.hours_per_million == pytest.approx(1e6 * 0.01 / 3600)
    bench = make_bench(model, price=3.0)
    assert bench.cost_per_million(model) == pytest.approx(3 * 1e6 * 0.01 / 3600)


def test_the_share_of_the_ideal() -> None:
    timing = make_model("a", seconds=0.5, faster=2.7, ideal=3.0).query.alone
    assert timing.of_ideal == pytest.approx(0.9)


def test_json_holds_what_follows() -> None:
    bench = make_bench(make_model("a"), make_model("b", seconds=0.5, faster=2.0, ideal=2.5))
    plain = json.loads(json.dumps(bench.to_json(), allow_nan=False))
    second = plain["models"][1]
    assert second["query"]["alone_model"]["of_ideal"] == pytest.approx(0.8)
    assert second["candidate"]["per_second"]["median"] == pytest.approx(2)
    assert second["cost_per_million"] == bench.cost_per_million(bench.models[1])


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["puma-mini", "runs/student"], ["puma-mini", "student"]),
        (["a/student", "b/student", "b/teacher"], ["a/student", "b/student", "b/teacher"]),
        (["x", "x", "y"], ["x", "x (2)", "y"]),
        (["org/name@main"], ["name@main"]),
        (["student/", "."], ["student", "."]),
    ],
)
def test_names_are_short_and_distinct(models: list[str], names: list[str]) -> None:
    assert short_names(models) == names
