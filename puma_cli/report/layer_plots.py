"""The figures of an analysis by layer: what layers do to the state, and how alike depths are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from puma_cli.profiling.profile import LayerProfile
from puma_cli.profiling.similarity.measures import LayerSimilarity
from puma_cli.report.drawing import LIGHT, MODALITY_COLOURS, canvas, house_style
from puma_cli.report.heat_map import draw_cells, draw_scale, map_canvas
from puma_cli.report.layer_means import (
    PLACES,
    groups_at,
    mean_angles,
    mean_cka,
    mean_over,
    was_trimmed,
)
from puma_cli.report.plots import WIDTH, cut_line, mark_cells

_CANDIDATE: Any = (0, (2, 1.6))
_STEP = 0.1  # ends of a scale are whole steps
_DOT: dict[str, Any] = {"color": LIGHT.ink, "marker": "o", "markersize": 3.0, "linestyle": "none"}


def plot_similarity(profile: LayerProfile) -> Figure:
    """Return angular distance, block influence and cosine to the final state, by modality."""
    with house_style():
        figure, axes = canvas(WIDTH, 3.6, columns=3)
        layers, depths = range(profile.depth), range(profile.depth + 1)
        panels = [
            ("Angular distance", "decoder layer", "mean angle / π", layers, "angular"),
            ("Block influence", "decoder layer", "1 − mean cosine", layers, "block_influence"),
            ("To the final state", "layers kept", "mean cosine", depths, "cosine_to_final"),
        ]
        for place, (title, x, y, positions, field) in zip(axes, panels, strict=True):
            for entry in profile.at_embed:
                place.plot(positions, getattr(entry, field), **_line(entry))
            place.set_title(title)
            place.set_xlabel(x)
            place.set_ylabel(y)
            place.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            place.yaxis.set_major_locator(MaxNLocator(5))
        for place in axes[:2]:
            place.set_ylim(bottom=0)
            place.axvline(profile.recommended - 0.5, **cut_line())
        axes[2].axvline(profile.recommended, **cut_line())
        figure.legend(handles=_legend(profile.at_embed), loc="outside lower center", ncols=6)
    return figure


def plot_blocks(profile: LayerProfile) -> Figure:
    """Return the mean angular distance over every block of layers, by first layer and size."""
    grid, depth, cut = mean_angles(profile), profile.depth, profile.recommended
    top = _STEP * max(1, math.ceil(max(map(max, grid)) / _STEP - 1e-9))
    cells = [
        (start, size, value)
        for start, row in enumerate(grid)
        for size, value in enumerate(row, start=1)
    ]
    least = {
        size: min((grid[start][size - 1], -start) for start in range(depth - size + 1))
        for size in range(1, depth + 1)
    }
    with house_style():
        figure, (axes, scale) = map_canvas(WIDTH, 4.6)
        draw_cells(axes, [(start, size, value / top) for start, size, value in cells])
        if depth <= 16:
            for start, size, value in cells:
                weight = "bold" if least[size] == (value, -start) else "normal"
                text = f"{value:.2f}".removeprefix("0")
                axes.text(
                    start,
                    size,
                    text,
                    ha="center",
                    va="center_baseline",
                    fontsize=7.5,
                    weight=weight,
                )
        else:
            starts = [-start for _, start in least.values()]
            axes.plot(starts, list(least), label="least change of its size", **_DOT)
        if cut < depth:
            mark_cells(
                axes, cut - 0.5, depth - cut - 0.5, 1, 1, f"the block that k = {cut} removes"
            )
        if axes.get_legend_handles_labels()[0]:
            # All blocks end at the last layer, so this corner is free.
            axes.legend(loc="upper right")
        axes.set_xlim(-0.55, depth - 0.45)
        axes.set_ylim(0.45, depth + 0.55)
        _layer_ticks(axes)
        axes.set_xlabel("first layer of the block")
        axes.set_ylabel("layers in the block")
        axes.set_title("Angular distance over every block of layers")
        draw_scale(scale, 0.0, top, "mean angle / π")
    return figure


def plot_cka(profile: LayerProfile) -> Figure | None:
    """Return CKA between all depths at the embed token and at others, or None without any."""
    found = {place: mean_cka(profile, place) for place in PLACES}
    grids = {place: grid for place, grid in found.items() if grid is not None}
    known = [value for grid in grids.values() for row in grid for value in row if value is not None]
    if not known:
        return None
    low = _STEP * math.floor(min(1.0 - _STEP, max(0.0, min(known))) / _STEP + 1e-9)
    with house_style():
        figure, (*panels, scale) = map_canvas(WIDTH, 4.3, len(grids))
        for axes, (place, grid) in zip(panels, grids.items(), strict=True):
            draw_cells(
                axes,
                [
                    (column, row, (value - low) / (1.0 - low))
                    for row, values in enumerate(grid)
                    for column, value in enumerate(values)
                    if value is not None
                ],
            )
            cut = profile.recommended
            for draw in (axes.axvline, axes.axhline):
                draw(cut + 0.5, **cut_line() | {"zorder": 3})
            axes.set_xlim(-0.55, profile.depth + 0.55)
            axes.set_ylim(-0.55, profile.depth + 0.55)
            _layer_ticks(axes)
            axes.set_xlabel("after so many layers")
            axes.set_ylabel("after so many layers")
            axes.set_title(PLACES[place].capitalize())
        draw_scale(scale, low, 1.0, "linear CKA")
    return figure


def plot_cosines(profile: LayerProfile) -> Figure:
    """Return cosines over each layer: plain, centred, and without the dimensions that dominate."""
    places = [place for place in PLACES if groups_at(profile, place)]
    kinds = [("cosine", "plain", LIGHT.first), ("centred", "centred", LIGHT.second)]
    if was_trimmed(profile):
        kinds.append(("trimmed", "trimmed", LIGHT.third))
    with house_style():
        figure, panels = canvas(WIDTH, 3.4, columns=len(places))
        drawn = [0.0]
        for axes, place in zip(panels, places, strict=True):
            entries = groups_at(profile, place)
            for field, label, colour in kinds:
                columns = zip(*(getattr(entry, field) for entry in entries), strict=True)
                means = [mean_over(entries, column) for column in columns]
                # A gap, where a depth is the same for every input.
                values = [math.nan if value is None else value for value in means]
                style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3.0}
                axes.plot(range(profile.depth), values, label=label, **style)
                drawn += [value for value in values if not math.isnan(value)]
            axes.axvline(profile.recommended - 0.5, **cut_line())
            axes.set_title(PLACES[place].capitalize())
            axes.set_xlabel("decoder layer")
            axes.set_ylabel("cosine of input and output")
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        low = min(drawn)
        for axes in panels:
            axes.set_ylim(1.08 * low if low < 0 else 0.0, 1.03)
        handles = [*panels[0].lines[: len(kinds)], Line2D([], [], label="cut", **cut_line())]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _layer_ticks(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    axes.spines["bottom"].set_visible(False)
    axes.grid(False)


def _line(entry: LayerSimilarity) -> dict[str, Any]:
    query = entry.side == "query"
    return {
        "color": MODALITY_COLOURS.get(entry.modality, LIGHT.muted),
        "linestyle": "solid" if query else _CANDIDATE,
        "linewidth": 1.8 if query else 1.5,
    }


def _legend(entries: Sequence[LayerSimilarity]) -> list[Line2D]:
    shown = dict.fromkeys(entry.modality for entry in entries)
    handles = [
        Line2D(
            [], [], color=MODALITY_COLOURS.get(name, LIGHT.muted), label=name.replace(",", " + ")
        )
        for name in shown
    ]
    handles.append(Line2D([], [], color=LIGHT.muted, label="query"))
    handles.append(Line2D([], [], color=LIGHT.muted, linestyle=_CANDIDATE, label="candidate"))
    handles.append(Line2D([], [], label="cut", **cut_line()))
    return handles
