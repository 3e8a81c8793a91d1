"""The figure of a comparison: each task's score, model beside model."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from puma_cli.evaluation.comparison import Comparison
from puma_cli.report.drawing import LIGHT, canvas, house_style
from puma_cli.report.plots import WIDTH

_STYLES = ((LIGHT.muted, "D"), (LIGHT.second, "o"), (LIGHT.first, "o"), (LIGHT.third, "o"))
_APART = 0.18  # of a row, so that intervals of neighbours stay legible


def plot_scores(comparison: Comparison, names: Sequence[str]) -> Figure:
    """Return a dot with its 95% interval for each model on every task and on the mean.

    Args:
        comparison: of at most four models, the reference first.
        names: what to call them in the legend.
    """
    rows = (*comparison.rows, comparison.mean)
    with house_style():
        figure, (axes,) = canvas(WIDTH, 1.3 + 0.4 * len(rows))
        for model, (name, (colour, marker)) in enumerate(zip(names, _STYLES, strict=False)):
            cells = [row.cells[model] for row in rows]
            shift = (model - (len(names) - 1) / 2) * _APART
            heights = [height + shift for height in range(len(rows))]
            low, high = zip(*(cell.score_interval for cell in cells), strict=True)
            axes.hlines(heights, low, high, color=colour, linewidth=1.3, alpha=0.7)
            axes.plot(
                [cell.score for cell in cells],
                heights,
                linestyle="none",
                marker=marker,
                markersize=5.5 if marker == "D" else 6.5,
                color=colour,
                label=name,
                zorder=3,
            )
        axes.set_yticks(range(len(rows)), [row.task for row in rows])
        axes.tick_params(axis="y", labelcolor=LIGHT.ink)
        axes.get_yticklabels()[-1].set_fontweight("bold")
        axes.axhline(len(rows) - 1.5, color=LIGHT.grid, linewidth=1.2)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 1.02)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_title(f"{comparison.metric} on {comparison.split}, {comparison.pool} pool")
        figure.legend(loc="outside lower center", ncols=len(names))
    return figure
