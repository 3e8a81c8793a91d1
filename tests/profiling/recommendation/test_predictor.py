"""What trained students are predicted to keep, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puma_cli.profiling.recommendation.predictor import (
    Formula,
    predict,
    shipped_predictor,
)
from puma_cli.profiling.retrieval.retention import Retention
from tests.profiling.predictors import PREDICTOR

FORMULA = Formula(half=0.25, slope=2.0, gap=1.0, error=0.02)
SHARES = st.floats(0.0, 1.0)


def curve(*shares: float, width: float = 0.0) -> Retention:
    return Retention(
        shares,
        tuple(max(0.0, share - width) for share in shares),
        tuple(share + width for share in shares),
    )


def test_formula_in_closed_form() -> None:
    assert FORMULA(0.4, 0.5) == pytest.approx(1 - 0.6 / (1 + 4))


@given(read=SHARES, share=SHARES, more=SHARES)
def test_formula_never_falls_with_what_is_read_or_kept(
    read: float, share: float, more: float
) -> None:
    here = FORMULA(read, share)
    assert FORMULA(max(read, more), share) >= here - 1e-12
    assert FORMULA(read, max(share, more)) >= here - 1e-12
    assert FORMULA(1.0, share) == 1.0 and FORMULA(0.0, 0.0) == 0.0
    assert 0.0 <= here <= 1.0
    # A cut that reads out better than the full model is not predicted to beat it.
    assert FORMULA(1.0 + more, share) == 1.0


def test_prediction_rests_on_bridges_where_there_are_any() -> None:
    plain, bridged = curve(0.0, 0.2, 0.4, 1.0), curve(0.0, 0.6, 0.9, 1.0)
    found = predict(
        {"first": plain, "bridged": bridged}, dimension=192, full=0.6, predictor=PREDICTOR
    )
    assert found is not None and found.reads == "bridged" and set(found.kept) == {"first"}
    assert found.kept["first"].share[1] == pytest.approx(PREDICTOR.bridged(0.6, 1 / 3))
    bare = predict({"first": plain}, dimension=192, full=0.6, predictor=PREDICTOR)
    assert bare is not None and bare.reads == "plain"
    assert bare.kept["first"].share[1] == pytest.approx(PREDICTOR.plain(0.2, 1 / 3))


def test_cuts_that_keep_the_last_layer_have_their_own() -> None:
    readings = dict.fromkeys(("first", "bridged"), curve(0.0, 0.2, 0.4, 1.0))
    readings["keep_last_bridged"] = curve(0.0, 0.0, 0.7, 1.0)
    readings["keep_last"] = curve(0.0, 0.0, 0.1, 1.0)
    found = predict(readings, dimension=192, full=0.6, predictor=PREDICTOR)
    assert found is not None
    assert found.kept["keep_last"].share[2] == pytest.approx(PREDICTOR.bridged(0.7, 2 / 3))


def test_nothing_is_lost_where_nothing_is_cut() -> None:
    found = predict({"first": curve(0.0, 0.3, 1.0)}, dimension=192, full=0.6, predictor=PREDICTOR)
    assert found is not None
    kept = found.kept["first"]
    assert kept.share[-1] == kept.low[-1] == kept.high[-1] == 1.0


def test_interval_adds_both_errors() -> None:
    width = 0.1
    found = predict(
        {"first": curve(0.2, 0.5, 1.0, width=width)}, dimension=192, full=0.6, predictor=PREDICTOR
    )
    assert found is not None
    kept, formula = found.kept["first"], PREDICTOR.plain
    drawn = (formula(0.6, 0.5) - formula(0.4, 0.5)) / (2 * 1.96)
    half = 1.96 * math.hypot(drawn, formula.error)
    assert kept.low[1] == pytest.approx(formula(0.5, 0.5) - half)
    assert kept.high[1] == pytest.approx(formula(0.5, 0.5) + half)


def test_too_few_queries_give_no_interval() -> None:
    read = Retention((0.0, 0.5, 1.0), (None,) * 3, (None,) * 3)
    found = predict({"first": read}, dimension=192, full=0.6, predictor=PREDICTOR)
    assert found is not None
    kept = found.kept["first"]
    assert kept.share[1] == pytest.approx(PREDICTOR.plain(0.5, 0.5))
    assert kept.low[1] is kept.high[1] is None


def test_cuts_that_do_not_exist_are_not_predicted() -> None:
    read = curve(0.0, 0.0, 0.7, 0.9, 1.0)
    readings = dict.fromkeys(("first", "bridged", "keep_last", "keep_last_bridged"), read)
    found = predict(readings, dimension=192, full=0.6, predictor=PREDICTOR)
    assert found is not None
    assert [value is None for value in found.kept["keep_last"].share] == [True, True] + 3 * [False]
    assert [value is None for value in found.kept["first"].share] == [True] + 4 * [False]


def test_nothing_is_predicted_below_zero() -> None:
    steep = replace(PREDICTOR, plain=Formula(half=2.0, slope=3.0, gap=0.1, error=0.2))
    found = predict({"first": curve(0.0, 0.0, 1.0)}, dimension=192, full=0.6, predictor=steep)
    assert found is not None
    kept = found.kept["first"]
    assert kept.share[0] == 0.0 and kept.low[0] == 0.0
    assert (kept.high[0] or -1.0) >= kept.share[0]


@pytest.mark.parametrize(
    ("depth", "width", "full", "words"),
    [
        (12, 192, 0.6, []),
        (28, 192, 0.6, ["28 decoder layers"]),
        (12, 3584, 0.6, ["3,584 dimensions"]),
        (12, 192, 0.9, ["90.0% hit@1"]),
        (28, 3584, 0.05, ["28 decoder layers", "3,584 dimensions", "5.0% hit@1"]),
    ],
)
def test_it_says_where_it_was_never_tried(
    depth: int, width: int, full: float, words: list[str]
) -> None:
    read = curve(*(k / depth for k in range(depth + 1)))
    found = predict({"first": read}, dimension=width, full=full, predictor=PREDICTOR)
    assert found is not None and len(found.outside) == len(words)
    for sentence, word in zip(found.outside, words, strict=True):
        assert word in sentence


def test_a_model_that_scores_nothing_has_no_prediction() -> None:
    read = curve(0.0, 0.0, 0.0)
    assert predict({"first": read}, dimension=192, full=0.0, predictor=PREDICTOR) is None


def test_what_ships_can_be_read() -> None:
    found = shipped_predictor()
    assert found is not None
    for formula in (found.bridged, found.plain):
        assert formula.half > 0 and formula.error > 0
        assert replace(formula, error=0.0)(0.5, 0.5) < 1.0
    assert found.fitted_on.students >= len(found.fitted_on.models) > 0
