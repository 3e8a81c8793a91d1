"""Pictures and examples to put on a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from puma_cli.report.gallery import Example, Found, Ranking


@pytest.fixture
def small_picture(tmp_path: Path) -> Path:
    """A drawing of 8 x 4 pixels."""
    path = tmp_path / "small.png"
    Image.new("RGB", (8, 4), "red").save(path)
    return path


@pytest.fixture
def large_picture(tmp_path: Path) -> Path:
    """A transparent picture far larger than the page shows."""
    path = tmp_path / "large.png"
    Image.new("RGBA", (900, 300), (0, 0, 255, 128)).save(path)
    return path


@pytest.fixture
def example(small_picture: Path, large_picture: Path) -> Example:
    """A query with both kinds of candidate, seen by two models."""
    found = (
        Found("a <b>", None, False),
        Found(None, small_picture, True),
        Found("both", large_picture, False),
    )
    return Example(
        task="tiny_task2",
        instruction="Find it & more.",
        text="red <script>",
        image=small_picture,
        rankings=(Ranking("teacher", found, 2), Ranking("cut", found[:1], None)),
    )
