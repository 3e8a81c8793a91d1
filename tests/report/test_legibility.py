"""Every figure of an analysis can be read: axes have names, and no text lies on another."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from puma_cli.profiling.profile import LayerProfile
from puma_cli.report.drawing import house_style, to_svg
from puma_cli.report.profile_page import draw_figures
from tests.profiling.examples import profile
from tests.report.profiles import bare, deep

CASES = {
    "all": profile(),
    "bare": bare(),
    **{f"{depth} layers": deep(depth) for depth in (1, 2, 16, 17, 28, 80)},
    "hopeless": deep(3, full=0.0),
    "perfect": deep(3, full=1.0),
}


@pytest.fixture(params=CASES)
def figures(request: pytest.FixtureRequest) -> dict[str, Figure]:
    made: LayerProfile = CASES[request.param]
    return draw_figures(made)


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Return every text that is drawn and what it covers, a little smaller than it is."""
    with house_style():
        figure.canvas.draw()
    found = []
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        box = text.get_window_extent()
        if text.get_visible() and text.get_text().strip() and box.width > 0 and _is_drawn(text):
            found.append((text.get_text(), box.padded(-0.5)))
    return found


def _is_drawn(text: Text) -> bool:
    """Tell whether a tick's label lies within its axes; matplotlib keeps others and skips them."""
    for axes in text.figure.axes if text.figure else ():
        for axis in (axes.xaxis, axes.yaxis):
            labels = [
                label for tick in axis.get_major_ticks() for label in (tick.label1, tick.label2)
            ]
            if text in labels:
                low, high = sorted(axis.get_view_interval())
                place = text.get_position()[0 if axis is axes.xaxis else 1]
                return axis.get_visible() and low <= place <= high
    return True


def test_every_figure_is_legible(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        assert figure.axes
        for axes in figure.axes:
            assert axes.get_ylabel(), name
            assert axes.get_xlabel() or not axes.xaxis.get_visible(), name
        drawn = boxes(figure)
        assert len(drawn) > 4
        clashes = [
            (one, other)
            for (one, here), (other, there) in combinations(drawn, 2)
            if here.overlaps(there)
        ]
        assert not clashes, name
        page = figure.bbox
        outside = [
            text
            for text, box in drawn
            if box.x0 < page.x0 or box.x1 > page.x1 or box.y0 < page.y0 or box.y1 > page.y1
        ]
        assert not outside, name
        assert "<text" in to_svg(figure, name, name)
