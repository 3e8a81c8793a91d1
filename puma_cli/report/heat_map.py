"""Cells of a heat map that work on a light and on a dark page, and their scale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from puma_cli.report.drawing import LIGHT, empty_canvas

CELL = (0.96, 0.92)  # of the distance to the next, so that the page shows between them
_LEVELS = 48
_STEPS = 12


def map_canvas(width: float, height: float, maps: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of `width` x `height` inches, and axes for its maps and one scale."""
    figure = empty_canvas(width, height)
    figure.set_layout_engine("constrained")
    return figure, list(figure.subplots(1, maps + 1, width_ratios=[1.0] * maps + [0.03 * maps]))


def draw_cells(
    axes: Axes,
    cells: Iterable[tuple[float, float, float]],
    size: tuple[float, float] = CELL,
) -> None:
    """Draw cells whose colour is the denser the larger their value is.

    Args:
        axes: where to draw.
        cells: the centre (x, y) of each cell and its value, drawn as if within [0, 1].
        size: width and height of a cell.
    """
    centres = defaultdict(list)
    for x, y, value in cells:
        centres[round(_LEVELS * min(1.0, max(0.0, value)))].append((x, y))
    # One path for all cells of a density: one for each cell would make the page of a deep model
    # megabytes long. Opacity instead of a colour scale lets the page's own colour show through.
    for level, places in sorted(centres.items()):
        axes.add_patch(
            PathPatch(
                _rectangles(places, size),
                facecolor=LIGHT.cell,
                alpha=0.04 + 0.96 * level / _LEVELS,
                linewidth=0,
            )
        )


def draw_scale(axes: Axes, low: float, high: float, label: str) -> None:
    """Turn axes into the strip that says which value a density stands for.

    Args:
        axes: narrow axes beside the map.
        low: the value drawn as 0.
        high: the value drawn as 1.
        label: what the values are.
    """
    draw_cells(axes, [(0.0, step, step / (_STEPS - 1)) for step in range(_STEPS)], (1.0, CELL[1]))
    ends = (-0.5, 0.5 * (_STEPS - 1), _STEPS - 0.5)
    axes.set_xlim(-0.5, 0.5)
    axes.set_ylim(ends[0], ends[-1])
    axes.xaxis.set_visible(False)
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_yticks(ends, [f"{value:.2f}" for value in (low, (low + high) / 2, high)])
    axes.set_ylabel(label)
    axes.grid(False)


def _rectangles(places: list[tuple[float, float]], size: tuple[float, float]) -> Path:
    right, up = size[0] / 2, size[1] / 2
    corners = ((-right, -up), (right, -up), (right, up), (-right, up), (-right, -up))
    codes = (Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY)
    return Path(
        [(x + dx, y + dy) for x, y in places for dx, dy in corners],
        [code for _ in places for code in codes],
    )
