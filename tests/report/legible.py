"""Whether a figure can be read: axes have names, and no text lies on another."""

from __future__ import annotations

from itertools import combinations

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from puma_cli.report.drawing import house_style, to_svg


def check_legible(figure: Figure, name: str) -> None:
    """Fail unless every axis is named and all text lies apart and on the page."""
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
