"""One retrieved example as a picture of its own, for pages that cannot hold HTML."""

from __future__ import annotations

from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from puma_cli.report.drawing import BAD, GOOD, LIGHT, empty_canvas, house_style
from puma_cli.report.gallery import ACROSS, Example, Found
from puma_cli.report.pictures import read_picture

_TILE = 1.25  # inches
_NAMES = 1.35


def plot_example(example: Example) -> Figure:
    """Return a query and what each model retrieves for it, a row for each model.

    Raises:
        DataError: a picture is missing or cannot be read.
    """
    rows = len(example.rankings)
    with house_style():
        width = _NAMES + ACROSS * _TILE
        head = 1.3 if example.image else 0.75
        height = head + rows * _TILE
        figure = empty_canvas(width, height)
        left = 0.04 / width
        if example.image:
            side = 1.0
            place = figure.add_axes((left, 1 - 1.15 / height, side / width, side / height))
            _picture(place, Found(None, example.image, False))
            left += (side + 0.15) / width
        lines = fill(example.text or "", 70 if example.image else 84)
        figure.text(left, 1 - 0.28 / height, lines, va="center", weight="bold", size=11)
        if example.instruction:
            below = 1 - (0.34 + 0.19 * (1 + lines.count("\n"))) / height
            figure.text(left, below, example.instruction, va="center", color=LIGHT.muted)
        for row, ranking in enumerate(example.rankings):
            bottom = (rows - 1 - row) * _TILE / height
            middle = bottom + 0.5 * _TILE / height
            figure.text(0.04 / width, middle, fill(ranking.model, 18), va="center", weight="bold")
            for column, found in enumerate(ranking.found[:ACROSS]):
                place = figure.add_axes(
                    (
                        (_NAMES + column * _TILE + 0.05) / width,
                        bottom + 0.05 / height,
                        (_TILE - 0.1) / width,
                        (_TILE - 0.1) / height,
                    )
                )
                _picture(place, found)
                _frame(place, GOOD if found.relevant else BAD, found.relevant)
    return figure


def _picture(axes: Axes, found: Found) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    caption = fill(found.text or "", 17, max_lines=5 if found.image is None else 2)
    if found.image is None:
        axes.text(0.5, 0.5, caption, ha="center", va="center", size=7.5)
        return
    picture = np.asarray(read_picture(found.image).convert("RGB"))
    height, width = picture.shape[:2]
    room = 0.7 if caption else 0.9
    across, up = room * min(1, width / height), room * min(1, height / width)
    middle = 0.6 if caption else 0.5
    box = (0.5 - across / 2, 0.5 + across / 2, middle - up / 2, middle + up / 2)
    smooth = "nearest" if max(height, width) < 224 else "antialiased"
    axes.imshow(picture, extent=box, aspect="auto", interpolation=smooth)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    if caption:
        axes.text(0.5, 0.12, caption, ha="center", va="center", size=6.5)


def _frame(axes: Axes, colour: str, thick: bool) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(colour)
        spine.set_linewidth(2.6 if thick else 1.2)
