"""What the figures by depth show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from puma_cli.profiling.retrieval.readings import READINGS
from puma_cli.profiling.retrieval.retention import Retention
from puma_cli.report.plots import plot_asymmetric, plot_readout, plot_tasks
from puma_cli.report.score_plot import plot_scores
from tests.profiling.examples import profile
from tests.report.comparisons import comparison
from tests.report.drawn import cell_count, corners, points
from tests.report.profiles import bare, deep

LABELS = {reading.name: reading.label for reading in READINGS}


def texts(figure: Figure) -> list[str]:
    return [item.get_text() for axes in figure.axes for item in axes.texts]


def curves(figure: Figure) -> list[list[tuple[float, float]]]:
    return [points(line) for line in figure.axes[0].lines]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.texts]


def test_readout_has_a_curve_for_each_symmetric_reading() -> None:
    made = profile()
    figure = plot_readout(made)
    shown = ("first", "bridged", "keep_last", "keep_last_bridged")
    for name in shown:
        means = made.mean("hit@1", name)
        assert [(k, means[k]) for k in made.depths(name)] in curves(figure)
    # The cut and the full model are lines too.
    assert len(curves(figure)) == 4 + 2
    assert legend(figure) == [LABELS[name] for name in shown]


def test_readout_shows_what_is_predicted_with_its_interval() -> None:
    made = profile(predicted=True)
    assert made.prediction is not None
    figure, full = plot_readout(made), made.mean()[-1]
    kept = made.prediction.kept["first"]
    expected = [(k, (kept.share[k] or 0) * full) for k in range(1, 13)]
    assert expected in curves(figure)
    assert legend(figure)[-1] == "first k layers, trained (predicted)"
    assert any(f"trained about {full * (kept.share[4] or 0):.0%}" in text for text in texts(figure))
    *_, band = figure.axes[0].collections
    ends = corners(band)
    at_cut = ends[ends[:, 0] == 4][:, 1]
    assert at_cut.min() == pytest.approx((kept.low[4] or 0) * full)
    assert at_cut.max() == pytest.approx((kept.high[4] or 0) * full)


@pytest.mark.parametrize("bridged", [False, True])
@pytest.mark.parametrize("keep_last", [False, True])
def test_readout_shows_what_was_measured(bridged: bool, keep_last: bool) -> None:
    made = profile(bridged=bridged, keep_last=keep_last)
    names = [name for name in made.readings if not name.endswith("_to_full")]
    assert sorted(legend(plot_readout(made))) == sorted(LABELS[name] for name in names)
    assert ("bridged" in " ".join(texts(plot_readout(made)))) is bridged


def test_readout_marks_the_cut_and_the_full_model() -> None:
    made = profile()
    first, bridged = made.mean()[4], made.mean("hit@1", "bridged")[4]
    shown = texts(plot_readout(made))
    assert f"cut here: k = 4, untrained {first:.1%}, bridged {bridged:.1%}" in shown
    assert f"full model\n{made.mean()[-1]:.1%}" in shown
    other = texts(plot_readout(made, cut=7))
    assert any(text.startswith("cut here: k = 7, ") for text in other)
    assert not any("k = 4" in text for text in other)


def test_bands_are_the_intervals_of_the_share_times_the_full_score() -> None:
    made = profile()
    bands = list(plot_readout(made).axes[0].collections)
    assert len(bands) == 2
    for band, name in zip(bands, ("first", "bridged"), strict=True):
        found, full = made.retention[name], made.mean()[-1]
        ends = corners(band)
        for k in made.depths(name):
            low, high = found.low[k], found.high[k]
            assert low is not None and high is not None
            at_depth = ends[ends[:, 0] == k][:, 1]
            assert at_depth.min() == pytest.approx(low * full)
            assert at_depth.max() == pytest.approx(high * full)


def test_no_band_where_nothing_bounds_it() -> None:
    made = bare()
    found = made.retention["first"]
    low = tuple(None if k == 6 else value for k, value in enumerate(found.low))
    gap = replace(made, retention={"first": Retention(found.share, low, found.high)})
    (band,) = plot_readout(gap).axes[0].collections
    assert set(corners(band)[:, 0]) == set(range(13)) - {6}


def test_asymmetric_use() -> None:
    made = profile()
    figure = plot_asymmetric(made)
    for name, start in (("first_to_full", 0), ("bridged_to_full", 1)):
        means = made.mean("hit@1", name)
        assert [(k, means[k]) for k in range(start, 13)] in curves(figure)
    assert legend(figure) == [LABELS["first_to_full"], LABELS["bridged_to_full"]]
    assert legend(plot_asymmetric(bare())) == [LABELS["first_to_full"]]


def test_task_map_shows_every_score() -> None:
    made = profile()
    figure = plot_tasks(made)
    rows = [task.scores["first"]["hit@1"] for task in made.readout] + [made.mean()]
    assert texts(figure) == [f"{100 * value:.0f}" for row in rows for value in row]
    assert cell_count(figure.axes[0]) == 9 * 13
    (frame,) = (patch for patch in figure.axes[0].patches if not patch.get_fill())
    assert frame.get_bbox().bounds == (3.5, -0.5, 1, 9)  # type: ignore[attr-defined]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [*(task.task for task in made.readout), "mean"]
    assert len(figure.axes) == 1


def test_task_map_of_a_deep_model_has_a_scale_instead_of_numbers() -> None:
    figure = plot_tasks(deep(20))
    assert not texts(figure)
    assert [axes.get_ylabel() for axes in figure.axes] == ["task", "hit@1"]


def test_scores_of_every_task_and_their_mean() -> None:
    figure = plot_scores(comparison(), ["teacher", "student"])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a", "b", "mean"]
    drawn = [np.asarray(line.get_xdata()).tolist() for line in figure.axes[0].lines]
    assert pytest.approx([0.8, 0.6, 0.7]) in drawn
