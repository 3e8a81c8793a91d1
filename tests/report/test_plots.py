"""What the figures of an analysis show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from puma_cli.profiling.choice import choose
from puma_cli.profiling.profile import LayerProfile, TaskReadout
from puma_cli.report.drawing import to_svg
from puma_cli.report.plots import plot_readout, plot_similarity, plot_tasks
from puma_cli.report.score_plot import plot_scores
from tests.profiling.examples import profile
from tests.report.comparisons import comparison


def texts(figure: Figure) -> list[str]:
    return [item.get_text() for axes in figure.axes for item in axes.texts]


def test_readout_marks_the_cut_and_names_the_curves() -> None:
    made = profile()
    figure = plot_readout(made)
    assert f"cut here: k = {made.recommended}" in texts(figure)
    assert f"hit@1  {made.mean('hit@1')[-1]:.1%}" in texts(figure)
    drawn = [np.asarray(line.get_ydata()).tolist() for line in figure.axes[0].lines]
    assert list(made.mean("hit@1")) in drawn
    assert list(made.mean("hit@5")) in drawn


def test_readout_at_another_cut() -> None:
    assert "cut here: k = 7" in texts(plot_readout(profile(), cut=7))


def test_similarity_has_a_line_for_each_group_in_each_panel() -> None:
    made = profile()
    for axes in plot_similarity(made).axes:
        assert len(axes.lines) == len(made.similarity) + 1


def test_task_map_has_a_cell_for_each_task_and_depth() -> None:
    made = profile()
    figure = plot_tasks(made)
    rows = len(made.readout) + 1
    assert len(texts(figure)) == rows * 13
    assert len(figure.axes[0].patches) == rows * 13 + 1


@pytest.mark.parametrize("depth", [1, 2, 40])
@pytest.mark.parametrize("full", [0.0, 1.0])
def test_shallow_deep_hopeless_and_perfect_models(depth: int, full: float) -> None:
    made = profile()
    curve = tuple(full * k / depth for k in range(depth + 1))
    readout = (TaskReadout("t", 5, 10, {"hit@1": curve, "hit@5": curve}),)
    similarity = tuple(
        replace(
            entry,
            cosine=(0.5,) * depth,
            angular=(0.5,) * depth,
            block_influence=(0.5,) * depth,
            centred=(None,) * depth,
            cosine_to_final=(1.0,) * (depth + 1),
            angular_to_final=(0.0,) * (depth + 1),
        )
        for entry in made.similarity[:1]
    )
    odd: LayerProfile = replace(
        made,
        depth=depth,
        readout=readout,
        similarity=similarity,
        parameters=(1,) * (depth + 1),
        choice=choose(curve, queries=5),
    )
    for number, figure in enumerate((plot_readout(odd), plot_similarity(odd), plot_tasks(odd))):
        assert "<svg" in to_svg(figure, f"f{number}", "odd")


def test_scores_of_every_task_and_their_mean() -> None:
    figure = plot_scores(comparison(), ["teacher", "student"])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a", "b", "mean"]
    drawn = [np.asarray(line.get_xdata()).tolist() for line in figure.axes[0].lines]
    assert pytest.approx([0.8, 0.6, 0.7]) in drawn
