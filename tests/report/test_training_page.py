"""The page of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from puma_cli.report.drawing import to_svg
from puma_cli.report.page import Drawing
from puma_cli.report.training_captions import LABELS, caption
from puma_cli.report.training_history import TrainingHistory
from puma_cli.report.training_page import draw_figures, render, write_training_plot
from puma_cli.report.training_plots import plot_answers, plot_loss, plot_summary, plot_validation
from puma_cli.report.training_tables import score_rows
from tests.report.drawn import corners, heights
from tests.report.html_check import Reading, read
from tests.report.legible import check_legible
from tests.report.trainings import training

CASES = {
    "plain": training(),
    "everything": training(850, 100, 8, tables=True),
    "long": training(20_000, 200, 16),
    "one step": training(1, 0, teacher=False),
    "one validation": training(30, 30, 1),
    "no teacher": training(40, 20, 4, teacher=False),
    "best at the first": training(100, 100),
    "nothing found": replace(
        training(), rows=[{"step": s, "loss": 0.0, "validation_hit@1": 0.0} for s in (1, 2)]
    ),
    "an older log": replace(training(), rows=[{"step": s, "loss": 1.0 / s} for s in (1, 10, 20)]),
}


@pytest.fixture(params=CASES)
def made(request: pytest.FixtureRequest) -> TrainingHistory:
    return CASES[request.param]


def page_of(made: TrainingHistory) -> tuple[str, Reading]:
    figures = {
        name: Drawing(to_svg(figure, name, LABELS[name]), caption(name, made))
        for name, figure in draw_figures(made).items()
    }
    text = render(made, figures, "out/student")
    return text, read(text)


def test_every_figure_is_legible(made: TrainingHistory) -> None:
    for name, figure in {**draw_figures(made), "summary": plot_summary(made)}.items():
        check_legible(figure, name)


def test_page_is_whole_and_small_however_long_the_log(made: TrainingHistory) -> None:
    text, reading = page_of(made)
    assert reading.count("svg") == reading.count("figcaption") == len(draw_figures(made))
    assert len(text) < 400_000
    assert f"{made.steps:,} steps of 48 queries" in reading.text


def test_page_says_what_came_out_of_what() -> None:
    _, reading = page_of(training(tasks=2))
    for part in (
        "Best at step 150: validation hit@1 86.6%, 99% of the teacher's 87.5%.",
        "pruned, taught by puma-mini on scenes",
        "puma eval out/student --data scenes",
        "loss.cosine",
        "sha256:student",
        "cpu (x86_64, 2 threads)",
        "scenes_task1",
        "0.5 × mac",
    ):
        assert part in reading.text
    # No temperature moves.
    assert "Temperatures" not in reading.text


def test_page_of_a_training_under_way_offers_no_next_step() -> None:
    half = training(finished=False)
    rows = [row for row in half.rows if row["step"] <= 100]
    _, reading = page_of(replace(half, rows=rows))
    assert "has come to step 100; about 30 s are left." in reading.text
    assert "puma eval" not in reading.text


def test_page_without_validation_says_which_weights_stay() -> None:
    _, reading = page_of(CASES["one step"])
    assert "The last weights are kept" in reading.text
    assert "Best at" not in reading.text


def test_the_terms_are_stacked_to_the_loss() -> None:
    made = training()
    (axes,) = plot_loss(made).axes
    loss = made.series("loss")
    assert heights(axes.lines[0]) == pytest.approx(loss.values)
    tops = [float(corners(area)[:, 1].max()) for area in axes.collections]
    assert tops == sorted(tops)
    assert tops[-1] == pytest.approx(max(loss.values))


def test_curves_that_coincide_are_drawn_once() -> None:
    made = training()
    rows = [{**row, "intra": row["accuracy"]} if "loss" in row else row for row in made.rows]
    whole, alike = (plot_answers(each) for each in (made, replace(made, rows=rows)))
    assert whole is not None and alike is not None
    assert [len(figure.axes[0].lines) for figure in (whole, alike)] == [3, 2]


def test_the_right_scale_is_the_share_of_the_teachers() -> None:
    made = training()
    figure = plot_validation(made)
    figure.canvas.draw()
    (axes,) = figure.axes
    (right,) = axes.child_axes
    assert made.teacher is not None
    assert right.get_ylim()[1] * made.teacher == pytest.approx(axes.get_ylim()[1])
    assert not plot_validation(CASES["no teacher"]).axes[0].child_axes


def test_scores_are_those_of_the_step() -> None:
    made = training(tasks=2)
    assert score_rows(made, 150) == [
        ["scenes_task0", "89.1%", "90.0%", "99%"],
        ["scenes_task1", "84.2%", "85.0%", "99%"],
        ["mean", "86.6%", "87.5%", "99%"],
    ]
    assert score_rows(made, 151) == []
    assert {len(row) for row in score_rows(CASES["no teacher"], 20)} == {2}


def test_the_cards_picture_is_small(tmp_path: Path) -> None:
    write_training_plot(CASES["long"], tmp_path)
    with Image.open(tmp_path / "training.png") as picture:
        assert picture.size == (860, 320)
    assert (tmp_path / "training.png").stat().st_size < 100_000
