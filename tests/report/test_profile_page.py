"""The report of an analysis."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from puma_cli.profiling.profile import LayerProfile
from puma_cli.profiling.recommendation.explained_choice import Choice
from puma_cli.report.captions import LABELS
from puma_cli.report.profile_page import (
    depth_headers,
    depth_rows,
    draw_figures,
    prune_command,
    write_profile_page,
)
from tests.profiling.examples import profile
from tests.report.html_check import Reading, read
from tests.report.profiles import bare

HEADINGS = [
    "Retrieval at every depth",
    "What each cut costs and keeps",
    "Parameters by part",
    "Tasks",
    "Similarity between layers",
    "Blocks of layers",
    "Layer by layer",
    "When a few dimensions dominate",
]
CKA, BRIDGES = "CKA of every two depths", "How well the bridges fit"


def write(made: LayerProfile, folder: Path) -> tuple[str, Reading]:
    write_profile_page(made, folder, "out/profile")
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, read(text)


def headings(text: str) -> list[str]:
    return re.findall(r"<h[23]>(.*?)</h[23]>", text)


def test_page_says_where_why_and_what_next(tmp_path: Path) -> None:
    made = profile(partial=True)
    text, reading = write(made, tmp_path)
    assert f"Cut after layer {made.recommended} of 12" in reading.text
    assert made.reason in reading.text
    command = "puma prune puma-mini --profile out/profile --output-dir puma-mini-4"
    assert command in reading.text
    assert "part of each task" in reading.text
    assert text.index('class="card"') < text.index(command) < text.index("<h2>")


def test_page_of_an_analysis_that_was_stopped(tmp_path: Path) -> None:
    made = profile(partial=True)
    _, reading = write(replace(made, measured=replace(made.measured, stopped=True)), tmp_path)
    assert "(stopped early)" in reading.text


def test_page_with_everything(tmp_path: Path) -> None:
    text, reading = write(profile(), tmp_path)
    assert headings(text) == [*HEADINGS, CKA, BRIDGES]
    assert reading.count("svg") == reading.count("figcaption") == len(LABELS)
    assert reading.count("table") == 5
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == sorted(LABELS)
    labels = [tag.get("aria-label") for name, tag in reading.tags if name == "svg"]
    assert sorted(map(str, labels)) == sorted(LABELS.values())
    # The words in the pictures are text, which can be found and read aloud.
    for part in ("mean hit@1 of 8 tasks", "layers in the block", "linear CKA", "mean angle / π"):
        assert part in reading.text
    assert not re.findall(r"https?://(?!www\.w3\.org/)", text)
    for kind in ("Dashed: cuts", "Bridged: with a linear head", "Trimmed:", "Attention sinks"):
        assert kind in reading.text


def test_page_with_the_least(tmp_path: Path) -> None:
    text, reading = write(bare(), tmp_path)
    assert headings(text) == HEADINGS
    assert not (tmp_path / "cka.png").exists()
    for kind in ("Dashed: cuts", "ridge", "Trimmed:", "Attention sinks", "bridge", "Bridged"):
        assert kind not in reading.text


@pytest.mark.parametrize("bridged", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_asymmetric_figure_where_it_was_measured(bridged: bool, alike: bool) -> None:
    made = profile(bridged=bridged)
    if not alike:
        # A head makes the full model's vectors another length: no cut's own vectors fit its index.
        tasks = tuple(
            replace(
                task,
                scores={k: v for k, v in task.scores.items() if k != "first_to_full"},
            )
            for task in made.readout
        )
        made = replace(made, readout=tasks)
    assert ("asymmetric" in draw_figures(made)) is (bridged or alike)


def test_other_code_finds_the_terminal_table_here() -> None:
    assert {len(row) for row in depth_rows(profile())} == {len(depth_headers(profile()))} == {7}
    made = profile(predicted=True)
    assert {len(row) for row in depth_rows(made)} == {len(depth_headers(made))} == {8}


@pytest.mark.parametrize(
    ("rule", "headline"),
    [("whole", "Nothing needs to be cut."), ("unmet", "No cut is what was asked for.")],
)
def test_where_no_cut_is_recommended_none_is_offered(
    rule: str, headline: str, tmp_path: Path
) -> None:
    choice = Choice(12, False, rule, "So it is.", "hit@1", 0.9, 12, 11, "k = 11 is cheaper.")
    made = replace(profile(), choice=choice)
    _, reading = write(made, tmp_path)
    for part in (headline, "So it is.", "Runner-up: k = 11 is cheaper."):
        assert part in reading.text
    assert "puma prune" not in reading.text
    assert prune_command(made, "p") == ""


def test_a_cut_that_keeps_the_last_layer_is_described_as_one(tmp_path: Path) -> None:
    made = profile(predicted=True)
    made = replace(made, choice=replace(made.choice, keep_last=True))
    _, reading = write(made, tmp_path)
    assert "Keep 4 of 12 layers: the first 3 and the last." in reading.text


def test_doubts_about_a_prediction_are_said(tmp_path: Path) -> None:
    made = profile(predicted=True)
    assert made.doubts == ()
    shallow = replace(made, choice=replace(made.choice, k=1))
    _, reading = write(shallow, tmp_path)
    assert "The prediction is a guess here. The cut keeps 8% of the layers" in reading.text


def test_no_lead_is_not_sold_as_one(tmp_path: Path) -> None:
    made = profile()
    choice = replace(made.choice, k=5, rule="share", reason="The model is near chance.")
    _, reading = write(replace(made, choice=choice), tmp_path)
    assert "No depth stands out; 5 of 12 layers is a customary start." in reading.text


def test_commands_are_quoted_for_the_shell() -> None:
    made = replace(profile(), model="org/model@v1")
    assert prune_command(made, "my profile") == (
        "puma prune org/model@v1 --profile 'my profile' --output-dir model-4"
    )
