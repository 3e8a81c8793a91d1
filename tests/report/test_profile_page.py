"""The report of an analysis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from puma_cli.profiling.choice import Choice
from puma_cli.report.profile_page import depth_rows, prune_command, write_profile_page
from tests.profiling.examples import profile
from tests.report.html_check import read


def test_page_says_where_why_and_what_next(tmp_path: Path) -> None:
    made = profile(partial=True)
    write_profile_page(made, tmp_path, "out/profile")
    reading = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert f"Cut after layer {made.recommended} of 12" in reading.text
    assert made.reason in reading.text
    command = "puma prune puma-mini --profile out/profile --output-dir puma-mini-4"
    assert command in reading.text
    assert "part of each task" in reading.text
    assert reading.count("svg") == 3
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "readout.png",
        "similarity.png",
        "tasks.png",
    ]


def test_every_cut_has_a_row() -> None:
    rows = depth_rows(profile())
    assert [row[0] for row in rows] == [str(k) for k in range(1, 13)]
    assert rows[-1][2] == rows[-1][4] == "100%"
    assert rows[-1][6] == "0.000"


def test_one_layer_offers_no_cut(tmp_path: Path) -> None:
    made = profile()
    whole = Choice(12, "whole", "The model has one decoder layer.", "hit@1", 0.9, 12)
    write_profile_page(replace(made, choice=whole), tmp_path, "p")
    text = read((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "There is nothing to cut." in text
    assert "puma prune" not in text


def test_no_lead_is_not_sold_as_one(tmp_path: Path) -> None:
    made = profile()
    choice = replace(made.choice, k=5, rule="share", reason="The model is near chance.")
    write_profile_page(replace(made, choice=choice), tmp_path, "p")
    text = read((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "No depth stands out; 5 of 12 layers is a customary start." in text


def test_commands_are_quoted_for_the_shell() -> None:
    made = replace(profile(), model="org/model@v1")
    assert prune_command(made, "my profile") == (
        "puma prune org/model@v1 --profile 'my profile' --output-dir model-4"
    )
