"""The page of the demonstration, its table and its gallery."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from puma_cli.errors import DataError
from puma_cli.report.demo_page import DemoPage, ScoreRow, score_cells, write_demo_page
from puma_cli.report.drawing import to_svg
from puma_cli.report.gallery import Example, gallery
from puma_cli.report.gallery_plot import plot_example
from puma_cli.report.numbers import count, share, size_on_disk
from puma_cli.report.page import Drawing
from puma_cli.report.pictures import LARGEST, SHOWN, data_uri
from puma_cli.report.score_plot import plot_scores
from tests.report.comparisons import comparison
from tests.report.html_check import read

ROWS = (
    ScoreRow("teacher", 12, {"hit@1": 0.8, "hit@5": 0.9}, 5_700_000, 4.312, 11_600_000),
    ScoreRow("student", 4, {"hit@1": 0.76, "hit@5": 0.88}, 2_900_000, 12.04, 6_100_000),
)


def test_table() -> None:
    assert score_cells(ROWS, ("hit@1", "hit@5")) == [
        ["teacher", "12", "80.0%", "90.0%", "100%", "5.70 M", "4.31", "11.6 MB"],
        ["student", "4", "76.0%", "88.0%", "95%", "2.90 M", "12.0", "6.10 MB"],
    ]
    hopeless = replace(ROWS[0], scores={"hit@1": 0.0, "hit@5": 0.0})
    assert score_cells([hopeless], ("hit@1",))[0][3] == "–"


def test_page(tmp_path: Path, example: Example) -> None:
    figure = plot_scores(comparison(), ["teacher", "student"])
    content = DemoPage(
        title="Demo",
        subtitle="On scenes.",
        headline="It works.",
        summary=["Well."],
        rows=ROWS,
        marked=1,
        figures=[("By task", Drawing(to_svg(figure, "scores", "scores"), "Dots."))],
        examples=[example],
        commands=["puma data scenes", "puma analyze"],
        next_command="puma info x",
    )
    write_demo_page(tmp_path / "demo.html", content)
    reading = read((tmp_path / "demo.html").read_text(encoding="utf-8"))
    for part in ("It works.", "76.0%", "puma data scenes\npuma analyze", "puma info x", "Dots."):
        assert part in reading.text
    assert reading.count("img") == 3


def test_gallery_frames_hits_and_misses(example: Example) -> None:
    reading = read(gallery([example]))
    kinds = [attributes.get("class") for _, attributes in reading.tags]
    assert kinds.count("hit") == 1
    assert kinds.count("miss") == 3
    assert "first hit at rank 2" in reading.text
    assert "no hit" in reading.text
    assert "red <script>" in reading.text


def size_of(uri: str) -> tuple[int, int]:
    with Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return picture.size


def test_small_pictures_grow_by_whole_factors(small_picture: Path) -> None:
    uri, crisp = data_uri(small_picture)
    assert crisp
    assert size_of(uri) == (SHOWN, SHOWN // 2)


def test_large_pictures_shrink(large_picture: Path) -> None:
    uri, crisp = data_uri(large_picture)
    assert not crisp
    assert max(size_of(uri)) == LARGEST


def test_missing_and_broken_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png is missing"):
        data_uri(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png cannot be read"):
        data_uri(tmp_path / "text.png")


def test_example_as_a_figure(example: Example) -> None:
    figure = plot_example(example)
    # One place for the query's picture, and one for each candidate.
    assert len(figure.axes) == 1 + 3 + 1
    assert any("teacher" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.00 k"),
        (999_600, "1.00 M"),
        (5_800_000, "5.80 M"),
        (11_640_000, "11.6 M"),
        (4_020_000_000, "4.02 B"),
        (123_456_789_000, "123 B"),
    ],
)
def test_counts(number: int, text: str) -> None:
    assert count(number) == text


def test_sizes_and_shares() -> None:
    assert size_on_disk(512) == "512 B"
    assert size_on_disk(11_640_000) == "11.6 MB"
    assert share(1, 3) == "33%"
    assert share(1, 0) == "–"
