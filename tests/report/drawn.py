"""What matplotlib has drawn, as plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray


def points(line: Line2D) -> list[tuple[float, float]]:
    """Return the points (x, y) of a line."""
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def heights(line: Line2D) -> NDArray[np.float64]:
    """Return the y of every point of a line."""
    return np.asarray(line.get_ydata(), dtype=np.float64)


def corners(artist: Any) -> NDArray[np.float64]:
    """Return the vertices (N, 2) of a patch's path, or of all paths of a collection."""
    paths = artist.get_paths() if hasattr(artist, "get_paths") else [artist.get_path()]
    return np.concatenate([np.asarray(path.vertices) for path in paths])


def cell_count(axes: Axes) -> int:
    """Return how many cells of a heat map were drawn; a frame has no colour to fill it."""
    return sum(len(corners(patch)) // 5 for patch in axes.patches if patch.get_fill())
