"""The figures of an analysis by depth: what each cut retrieves, in all and task by task."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from puma_cli.profiling.profile import PLAIN, LayerProfile
from puma_cli.profiling.retrieval.readings import CUTS, READINGS
from puma_cli.profiling.retrieval.retention import Retention
from puma_cli.report.drawing import LIGHT, canvas, house_style
from puma_cli.report.heat_map import draw_cells, draw_scale, map_canvas

WIDTH = 8.6
METRIC = "hit@1"
SYMMETRIC = ("first", "bridged", "keep_last", "keep_last_bridged")
ASYMMETRIC = ("first_to_full", "bridged_to_full")

# Colour says whether there is a bridge, the dash whether the last layer is kept.
_COLOURS = {
    "first": LIGHT.first,
    "bridged": LIGHT.second,
    "keep_last": LIGHT.first,
    "keep_last_bridged": LIGHT.second,
    "first_to_full": LIGHT.first,
    "bridged_to_full": LIGHT.second,
}
# What is predicted looks like nothing that was measured.
_TRAINED: dict[str, Any] = {
    "color": LIGHT.third,
    "linewidth": 1.6,
    "linestyle": (0, (1, 1.2)),
    "marker": "D",
    "markersize": 3.5,
    "zorder": 4,
}
_LABELS = {reading.name: reading.label for reading in READINGS}


def plot_readout(profile: LayerProfile, cut: int | None = None) -> Figure:
    """Return mean hit@1 of every cut by each way to read it, with 95% bands and the cut marked.

    Args:
        profile: what was measured.
        cut: the number of first layers to mark (1 to L); the recommended cut by default.
    """
    title = "Retrieval by cuts before any training"
    way = profile.cut if cut is None else PLAIN
    if profile.prediction is None:
        return _plot_readings(profile, SYMMETRIC, CUTS[way], cut, 4.4, title)
    title += ", and as predicted after it"
    trained = profile.prediction.kept.get(way)
    return _plot_readings(profile, SYMMETRIC, CUTS[way], cut, 4.6, title, trained)


def plot_asymmetric(profile: LayerProfile, cut: int | None = None) -> Figure:
    """Return mean hit@1 of every cut's queries in the full model's index.

    Args:
        profile: what was measured, with one of the `ASYMMETRIC` readings at least.
        cut: the depth to mark (1 to L); the recommended one by default.
    """
    title = "A cut's queries in the full model's index"
    return _plot_readings(profile, ASYMMETRIC, ASYMMETRIC, cut, 3.5, title)


def plot_tasks(profile: LayerProfile, metric: str = METRIC) -> Figure:
    """Return a map of `metric` for every task (rows) and depth (columns) of the untrained cuts."""
    rows = [(task.task, task.scores[PLAIN][metric]) for task in profile.readout]
    rows.append(("mean", profile.mean(metric)))
    with house_style():
        figure, (axes, scale) = map_canvas(WIDTH, 1.15 + 0.32 * len(rows))
        cells = [
            (depth, row, value)
            for row, (_, values) in enumerate(rows)
            for depth, value in enumerate(values)
        ]
        draw_cells(axes, cells)
        # Long names and many layers leave no room for a number in every cell.
        numbered = profile.depth <= 16
        if numbered:
            scale.remove()
            for depth, row, value in cells:
                axes.text(depth, row, f"{100 * value:.0f}", ha="center", va="center_baseline")
        else:
            draw_scale(scale, 0.0, 1.0, metric)
        mark_cells(axes, profile.recommended - 0.5, -0.5, 1, len(rows))
        axes.set_xlim(-0.55, profile.depth + 0.55)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.tick_params(axis="y", labelcolor=LIGHT.ink)
        axes.spines["bottom"].set_visible(False)
        depth_axis(axes, profile.depth, margin=False)
        axes.grid(False)
        axes.set_xlabel("decoder layers kept")
        axes.set_ylabel("task")
        unit = " in percent" if numbered else ""
        axes.set_title(f"{metric} of each task{unit}; the frame marks the cut")
    return figure


def depth_axis(axes: Axes, depth: int, margin: bool = True) -> None:
    """Put a tick at depths 0 to L, as many as there is room for."""
    step = 1 if depth <= 16 else 2 if depth <= 32 else 4 if depth <= 64 else 8
    axes.set_xticks(range(0, depth + 1, step))
    if margin:
        axes.set_xlim(-0.3, depth + 0.3)


def cut_line() -> dict[str, Any]:
    """Return how the line at the cut looks."""
    return {"color": LIGHT.mark, "linewidth": 1.4, "linestyle": (0, (4, 3)), "zorder": 1}


def mark_cells(
    axes: Axes, x: float, y: float, width: float, height: float, label: str = ""
) -> None:
    """Draw a frame around the cells of a map that the cut stands for.

    Args:
        x, y: lower left corner.
        label: what a legend calls it.
    """
    axes.add_patch(
        Rectangle(
            (x, y),
            width,
            height,
            fill=False,
            edgecolor=LIGHT.mark,
            linewidth=1.8,
            zorder=4,
            label=label,
        )
    )


def _plot_readings(
    profile: LayerProfile,
    names: tuple[str, ...],
    said: tuple[str, str],
    cut: int | None,
    height: float,
    title: str,
    trained: Retention | None = None,
) -> Figure:
    cut = cut or profile.recommended
    full = profile.mean(METRIC)[-1]
    shown = [name for name in names if name in profile.readings]
    with house_style():
        figure, (axes,) = canvas(WIDTH, height)
        axes.axvline(cut, **cut_line())
        axes.axhline(full, color=LIGHT.muted, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)
        tops = [full]
        for name in shown:
            depths = list(profile.depths(name))
            values = [profile.mean(METRIC, name)[k] for k in depths]
            axes.plot(depths, values, **_line(name))
            tops.append(max(values))
            # Four bands would hide one another; the two plain curves have theirs.
            if not name.startswith("keep_last"):
                found = profile.retention[name]
                tops.append(_draw_band(axes, found, depths, full, _COLOURS[name]))
        if trained is not None:
            depths = [k for k in profile.depths(said[0]) if k]
            values = [math.nan if (at := trained.share[k]) is None else at * full for k in depths]
            axes.plot(depths, values, **_TRAINED)
            tops += [value for value in values if not math.isnan(value)]
            tops.append(_draw_band(axes, trained, depths, full, LIGHT.third))
        axes.set_ylim(0, min(1.04, 1.08 * max(tops)) or 1.0)
        depth_axis(axes, profile.depth)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        # Above the frame, where no curve can run into it.
        early = cut <= 0.7 * profile.depth
        axes.annotate(
            "cut here: " + _say_cut(profile, [n for n in said if n in shown], cut, trained),
            (cut, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if early else 3, 4),
            textcoords="offset points",
            ha="left" if early else "right",
            color=LIGHT.mark,
            fontweight="bold",
        )
        axes.annotate(
            f"full model\n{full:.1%}",
            (1.0, full),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=LIGHT.muted,
            fontweight="bold",
        )
        axes.set_xlabel("decoder layers kept")
        axes.set_ylabel(f"mean {METRIC} of {_tasks(len(profile.readout))}")
        axes.set_title(title, pad=26.0)
        handles = [Line2D([], [], label=_LABELS[name], **_line(name)) for name in shown]
        if trained is not None:
            label = f"{_LABELS[said[0]].removesuffix(', untrained')}, trained (predicted)"
            handles.append(Line2D([], [], label=label, **_TRAINED))
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _say_cut(profile: LayerProfile, said: list[str], cut: int, trained: Retention | None) -> str:
    """Return the cut with its scores, in words that the legend explains."""
    words = [f"k = {cut}"]
    for name in said:
        word = "bridged" if "bridged" in name else "untrained"
        words.append(f"{word} {profile.mean(METRIC, name)[cut]:.1%}")
    if trained is not None and (kept := trained.share[cut]) is not None:
        words.append(f"trained about {kept * profile.mean(METRIC)[-1]:.0%}")
    return ", ".join(words)


def _draw_band(axes: Axes, found: Retention, depths: list[int], full: float, colour: str) -> float:
    """Draw the interval of a share of the full score; return how high it reaches."""
    ends = [(found.low[k], found.high[k]) for k in depths]
    # A gap, where too few queries are answered to say anything.
    bounds = [
        (math.nan, math.nan) if low is None or high is None else (low * full, high * full)
        for low, high in ends
    ]
    low, high = zip(*bounds, strict=True)
    axes.fill_between(depths, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    return max((value for value in high if not math.isnan(value)), default=0.0)


def _line(name: str) -> dict[str, Any]:
    if name.startswith("keep_last"):
        return {"color": _COLOURS[name], "linewidth": 1.5, "linestyle": (0, (3, 1.6)), "zorder": 3}
    return {"color": _COLOURS[name], "marker": "o", "markersize": 4.5, "zorder": 4}


def _tasks(number: int) -> str:
    return "one task" if number == 1 else f"{number} tasks"
