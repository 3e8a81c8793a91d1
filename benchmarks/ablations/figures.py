"""Figures: differences from the baseline with their intervals, and quality by depth."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ablations.grid import Question, Row, Setup
from ablations.paired import Paired
from ablations.records import Results
from ablations.tables import VAL, beside, whole
from puma_cli.report.drawing import LIGHT, canvas, house_style

_WIDTH = 8.4


def draw_differences(
    question: Question, data: str, setup: Setup, results: Results
) -> Figure | None:
    """Return each variant's difference from the baseline, or None while there is none."""
    rows = question.of(data)
    base = next((row for row in rows if row.name == question.baseline), None)
    if base is None:
        return None
    found: list[tuple[str, Paired]] = []
    for row in rows:
        if row.name != base.name:
            known = beside(row, base, results, VAL, setup.data[data].metric)
            if known is not None:
                found.append((row.name, known[0]))
    if not found:
        return None
    with house_style():
        figure, (axes,) = canvas(_WIDTH, 1.1 + 0.3 * len(found))
        places = range(len(found))[::-1]
        for place, (_, pair) in zip(places, found, strict=True):
            low, high = (100 * bound for bound in pair.difference_interval)
            axes.plot([low, high], [place, place], color=LIGHT.first)
            axes.plot([100 * pair.difference], [place], "o", color=LIGHT.first, markersize=5)
        axes.axvline(0, color=LIGHT.muted, linewidth=1)
        axes.set_yticks(list(places), [name for name, _ in found])
        axes.set_ylim(-0.7, len(found) - 0.3)
        axes.set_xlabel(f"points of {setup.data[data].metric} on {data}, val, against {base.name}")
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
    return figure


def draw_curve(question: Question, data: str, setup: Setup, results: Results) -> Figure | None:
    """Return what trained cuts keep by their share of the layers, with a band, or None."""
    metric = setup.data[data].metric
    points: list[tuple[float, Paired]] = []
    for row in question.of(data):
        full = whole(row.runs[0])
        pair = beside(row, Row("", data, (full,)), results, VAL, metric)
        line = results.lines.get((full.key, VAL))
        if pair is None or line is None or pair[0].kept is None:
            continue
        k = next(
            len(results.lines[run.key, VAL]["layers"])
            for run in row.runs
            if (run.key, VAL) in results.lines
        )
        points.append((k / len(line["layers"]), pair[0]))
    if len(points) < 2:
        return None
    points.sort(key=lambda point: point[0])
    x = [share for share, _ in points]
    bounds = [pair.kept_interval or (pair.kept or 0.0,) * 2 for _, pair in points]
    with house_style():
        figure, (axes,) = canvas(_WIDTH, 3.6)
        axes.fill_between(
            x, [b[0] for b in bounds], [b[1] for b in bounds], color=LIGHT.first, alpha=0.18,
            linewidth=0,
        )  # fmt: skip
        axes.plot(x, [pair.kept or 0.0 for _, pair in points], "o-", color=LIGHT.first)
        axes.axhline(1, color=LIGHT.muted, linewidth=1)
        axes.set_ylim(bottom=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("decoder layers kept")
        axes.set_ylabel(f"kept of the full model's {metric}, {data}, val")
    return figure
