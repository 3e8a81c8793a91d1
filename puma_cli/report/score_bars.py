"""The figure of scores: a bar for each task and model, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from puma_cli.report.drawing import LIGHT, canvas, house_style
from puma_cli.report.plots import WIDTH

_COLOURS = (LIGHT.first, LIGHT.second, LIGHT.third, LIGHT.mark, LIGHT.muted)
_LONGEST = 34


@dataclass(frozen=True)
class Bar:
    """One score in [0, 1] with the bounds of its interval."""

    score: float
    low: float
    high: float


def plot_bars(
    tasks: Sequence[str], models: Sequence[str], bars: Sequence[Sequence[Bar]], title: str
) -> Figure:
    """Return horizontal bars, the models of a task beside one another.

    Args:
        tasks: (T,) names of the rows; the last is the mean.
        models: (M,) names, 1 to 5; of one model there is no legend.
        bars: (T, M).
        title: what the bars show.
    """
    thick = 0.8 / len(models)
    rows = len(tasks)
    with house_style():
        figure, (axes,) = canvas(WIDTH, 1.25 + rows * (0.2 + 0.2 * len(models)))
        for number, (model, colour) in enumerate(zip(models, _COLOURS, strict=False)):
            own = [row[number] for row in bars]
            shift = (number - (len(models) - 1) / 2) * thick
            heights = [height + shift for height in range(rows)]
            axes.barh(
                heights,
                [bar.score for bar in own],
                height=0.86 * thick,
                color=colour,
                alpha=0.85,
                label=_short(model),
            )
            axes.hlines(
                heights,
                [bar.low for bar in own],
                [bar.high for bar in own],
                color=LIGHT.ink,
                linewidth=1.1,
            )
            for height, bar in zip(heights, own, strict=True):
                axes.text(
                    max(bar.high, bar.score) + 0.008,
                    height,
                    f"{100 * bar.score:.1f}",
                    va="center",
                    size=8,
                )
        axes.set_yticks(range(rows), [_short(task) for task in tasks])
        axes.tick_params(axis="y", labelcolor=LIGHT.ink)
        axes.get_yticklabels()[-1].set_fontweight("bold")
        axes.set_ylim(rows - 0.4, -0.6)
        axes.set_xlim(0, 1.08)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("score")
        axes.set_ylabel("task")
        axes.set_title(title)
        if len(models) > 1:
            figure.legend(loc="outside lower center", ncols=min(3, len(models)))
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"
