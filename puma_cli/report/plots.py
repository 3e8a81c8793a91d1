"""The figures of an analysis: read-out by depth, similarity by layer, tasks by depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from puma_cli.profiling.profile import LayerProfile
from puma_cli.profiling.similarity import LayerSimilarity
from puma_cli.report.drawing import LIGHT, MODALITY_COLOURS, canvas, house_style

WIDTH = 8.6


def plot_readout(profile: LayerProfile, cut: int | None = None) -> Figure:
    """Return mean hit@1 and hit@5 of the untrained model against depth, with the cut marked.

    Args:
        profile: what was measured.
        cut: the depth to mark (1 to L); the recommended one by default.
    """
    with house_style():
        figure, (axes,) = canvas(WIDTH, 3.9)
        depths = range(profile.depth + 1)
        curves = [("hit@5", LIGHT.second), ("hit@1", LIGHT.first)]
        curves = [entry for entry in curves if entry[0] in profile.readout[0].scores]
        cut = cut or profile.recommended
        axes.axvline(cut, color=LIGHT.mark, linewidth=1.4, linestyle=(0, (4, 3)), zorder=1)
        for metric, colour in curves:
            values = profile.mean(metric)
            axes.plot(depths, values, color=colour, marker="o", markersize=4.5, zorder=3)
            axes.plot(cut, values[cut], "o", color=colour, markersize=10, alpha=0.25, zorder=2)
        top = max(max(profile.mean(metric)) for metric, _ in curves)
        axes.set_ylim(0, min(1.04, 1.12 * top) or 1.0)
        _label_ends(axes, [(metric, profile.mean(metric)[-1], c) for metric, c in curves])
        _depth_axis(axes, profile.depth)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.annotate(
            f"cut here: k = {cut}",
            (cut, 0.045),
            xycoords=("data", "axes fraction"),
            xytext=(7 if cut <= 0.7 * profile.depth else -7, 0),
            textcoords="offset points",
            ha="left" if cut <= 0.7 * profile.depth else "right",
            color=LIGHT.mark,
            fontweight="bold",
        )
        axes.set_xlabel("decoder layers kept")
        axes.set_title(f"Retrieval by the untrained cut, mean of {len(profile.readout)} tasks")
    return figure


def plot_similarity(profile: LayerProfile) -> Figure:
    """Return angular distance, block influence and cosine to the final state, by modality."""
    with house_style():
        figure, axes = canvas(WIDTH, 3.5, columns=3)
        layers, depths = range(profile.depth), range(profile.depth + 1)
        panels = [
            ("Angular distance", "decoder layer", layers, "angular"),
            ("Block influence", "decoder layer", layers, "block_influence"),
            ("Cosine to the final state", "layers kept", depths, "cosine_to_final"),
        ]
        for place, (title, label, positions, field) in zip(axes, panels, strict=True):
            for entry in profile.similarity:
                place.plot(positions, getattr(entry, field), **_line(entry))
            place.set_title(title)
            place.set_xlabel(label)
            place.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            place.yaxis.set_major_locator(MaxNLocator(5))
        for place in axes[:2]:
            place.set_ylim(bottom=0)
            place.axvline(profile.recommended - 0.5, **_cut_line())
        axes[2].axvline(profile.recommended, **_cut_line())
        figure.legend(handles=_legend(profile.similarity), loc="outside lower center", ncols=6)
    return figure


def plot_tasks(profile: LayerProfile, metric: str = "hit@1") -> Figure:
    """Return a map of `metric` for every task (rows) and depth (columns)."""
    rows = [(task.task, task.scores[metric]) for task in profile.readout]
    rows.append(("mean", profile.mean(metric)))
    with house_style():
        figure, (axes,) = canvas(WIDTH, 1.15 + 0.32 * len(rows))
        # Long names and many layers leave no room for a number in every cell.
        numbered = profile.depth <= 16
        for row, (_, values) in enumerate(rows):
            for depth, value in enumerate(values):
                _cell(axes, row, depth, value, numbered)
        cut = profile.recommended
        frame: dict[str, Any] = {
            "fill": False,
            "edgecolor": LIGHT.mark,
            "linewidth": 1.8,
            "zorder": 4,
        }
        axes.add_patch(Rectangle((cut - 0.5, -0.5), 1, len(rows), **frame))
        axes.set_xlim(-0.55, profile.depth + 0.55)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.tick_params(axis="y", labelcolor=LIGHT.ink)
        axes.spines["bottom"].set_visible(False)
        _depth_axis(axes, profile.depth, margin=False)
        axes.grid(False)
        axes.set_xlabel("decoder layers kept")
        axes.set_title(f"{metric} of each task in percent; the frame marks the cut")
    return figure


def _cell(axes: Axes, row: int, depth: int, value: float, numbered: bool) -> None:
    # Opacity over the page, not a colour scale, so that the map works on a dark page too.
    alpha = 0.04 + 0.96 * min(1.0, value)
    axes.add_patch(
        Rectangle((depth - 0.48, row - 0.46), 0.96, 0.92, color=LIGHT.cell, alpha=alpha, lw=0)
    )
    if numbered:
        axes.text(depth, row, f"{100 * value:.0f}", ha="center", va="center_baseline")


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Name each curve at its last point, which spares a legend; names keep their distance."""
    gap, free = 0.07 * axes.get_ylim()[1], float("inf")
    for name, value, colour in sorted(ends, key=lambda end: -end[1]):
        free = min(value, free - gap)
        axes.annotate(
            f"{name}  {value:.1%}",
            (1.0, free),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
        )


def _depth_axis(axes: Axes, depth: int, margin: bool = True) -> None:
    step = 1 if depth <= 16 else 2 if depth <= 32 else 4
    axes.set_xticks(range(0, depth + 1, step))
    if margin:
        axes.set_xlim(-0.3, depth + 0.3)


def _line(entry: LayerSimilarity) -> dict[str, Any]:
    query = entry.side == "query"
    return {
        "color": MODALITY_COLOURS.get(entry.modality, LIGHT.muted),
        "linestyle": "solid" if query else (0, (2, 1.6)),
        "linewidth": 1.8 if query else 1.5,
    }


def _cut_line() -> dict[str, Any]:
    return {"color": LIGHT.mark, "linewidth": 1.2, "linestyle": (0, (4, 3)), "zorder": 1}


def _legend(entries: Sequence[LayerSimilarity]) -> list[Line2D]:
    shown = dict.fromkeys(entry.modality for entry in entries)
    handles = [
        Line2D(
            [], [], color=MODALITY_COLOURS.get(name, LIGHT.muted), label=name.replace(",", " + ")
        )
        for name in shown
    ]
    handles.append(Line2D([], [], color=LIGHT.muted, label="query"))
    handles.append(Line2D([], [], color=LIGHT.muted, linestyle=(0, (2, 1.6)), label="candidate"))
    handles.append(Line2D([], [], label="cut", **_cut_line()))
    return handles
