"""The figure of a comparison: each task's score, model beside model."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from puma_cli.evaluation.comparison import Comparison
from puma_cli.report.drawing import LIGHT, canvas, house_style
from puma_cli.report.plots import WIDTH

_COLOURS = (LIGHT.first, LIGHT.second, LIGHT.third)


def plot_scores(comparison: Comparison, names: Sequence[str]) -> Figure:
    """Return bars of the comparison's metric for every task and the mean, with 95% intervals.

    Args:
        comparison: of at most three models.
        names: what to call them in the legend.
    """
    rows = (*comparison.rows, comparison.mean)
    with house_style():
        figure, (axes,) = canvas(WIDTH, 3.9)
        width = 0.8 / len(names)
        for model, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
            cells = [row.cells[model] for row in rows]
            heights = [cell.score for cell in cells]
            places = [place + (model - (len(names) - 1) / 2) * width for place in range(len(rows))]
            whiskers = [
                [cell.score - cell.score_interval[0] for cell in cells],
                [cell.score_interval[1] - cell.score for cell in cells],
            ]
            axes.bar(places, heights, width * 0.92, color=colour, label=name)
            style = {"fmt": "none", "ecolor": LIGHT.muted, "elinewidth": 1.0, "capsize": 2.0}
            axes.errorbar(places, heights, whiskers, **style)
        axes.axvline(len(rows) - 1.5, color=LIGHT.grid, linewidth=1.2)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xticks(range(len(rows)), [_short(row.task) for row in rows])
        axes.set_title(f"{comparison.metric} on {comparison.split}, {comparison.pool} pool")
        figure.legend(loc="outside lower center", ncols=len(names))
    return figure


def _short(task: str) -> str:
    """Return `task 7` of `scenes_task7`: one data set's name under every bar says nothing."""
    return f"task {task.rpartition('_task')[2]}" if "_task" in task else task
