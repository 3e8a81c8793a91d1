"""How a figure looks, and how it becomes a PNG or an SVG that follows the page's theme."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Palette:
    """Colours by role; every value is used for one role only, so that a theme can replace it."""

    ink: str
    muted: str
    grid: str
    paper: str
    first: str
    second: str
    third: str
    mark: str
    cell: str


LIGHT = Palette(
    ink="#1f2a37",
    muted="#5f6b7a",
    grid="#e4e8ed",
    paper="#ffffff",
    first="#2f66a9",
    second="#c47a1d",
    third="#3a8f74",
    mark="#b4385c",
    cell="#6f9ed9",
)
DARK = Palette(
    ink="#e7ebf0",
    muted="#9aa7b5",
    grid="#2b3440",
    paper="#171d25",
    first="#78aae6",
    second="#e3aa5a",
    third="#6cc3a4",
    mark="#ee7f9c",
    cell="#2c68b0",
)

GOOD, BAD = "#2c8a5b", "#d3868c"

ROLES = tuple(Palette.__dataclass_fields__)
MODALITY_COLOURS = {"text": LIGHT.first, "image": LIGHT.second, "image,text": LIGHT.third}

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": LIGHT.ink,
    "axes.edgecolor": LIGHT.grid,
    "axes.labelcolor": LIGHT.muted,
    "axes.titlecolor": LIGHT.ink,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": LIGHT.paper,
    "grid.color": LIGHT.grid,
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT.grid,
    "ytick.color": LIGHT.grid,
    "xtick.labelcolor": LIGHT.muted,
    "ytick.labelcolor": LIGHT.muted,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "svg.fonttype": "none",
    "text.parse_math": False,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house's colours and type while the context is open."""
    with matplotlib.rc_context():
        # A reader's own matplotlibrc must not change the report.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def canvas(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of `width` x `height` inches and its axes, without global state."""
    figure = empty_canvas(width, height)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def empty_canvas(width: float, height: float) -> Figure:
    """Return a figure of `width` x `height` inches without axes or layout."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: Path, dpi: int = 200) -> None:
    """Write `figure` in the light theme, by default twice as sharp as a plain screen."""
    with house_style():
        figure.savefig(path, dpi=dpi, format="png", metadata={"Software": None})


def to_svg(figure: Figure, name: str, label: str) -> str:
    """Return `figure` as an SVG element whose colours and type follow the page it stands in.

    Args:
        name: a word unique on the page; ids inside the SVG are made from it.
        label: what the figure shows, for readers who cannot see it.
    """
    buffer = StringIO()
    with house_style(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # A style element inside an SVG would apply to the whole page; style.css says it for plots.
    for element in ("metadata", "style"):
        text = re.sub(rf"<{element}\b.*?</{element}>\s*", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', text)
    opening = (
        f'<svg class="plot" role="img" aria-label={quoteattr(label)} {box.group(0) if box else ""} '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    text = opening + text[text.index(">") + 1 :]
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    # The page's own type instead of a font that the reader may not have.
    text = re.sub(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1inherit", text)
    for role in ROLES:
        text = text.replace(getattr(LIGHT, role), f"var(--{role.replace('_', '-')})")
    return text.strip()
