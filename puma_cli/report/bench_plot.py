"""The figure of a bench: how much faster each model is, and quality against cost."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from puma_cli.benching.results import CANDIDATE, QUERY, Bench, ModelResult
from puma_cli.report.drawing import LIGHT, canvas, house_style
from puma_cli.report.numbers import three_digits
from puma_cli.report.plots import WIDTH

_COLOURS = (LIGHT.first, LIGHT.second, LIGHT.third, LIGHT.mark, LIGHT.cell)
_KINDS = (
    ("one query", QUERY, "alone_model"),
    ("queries in batches", QUERY, "batched_model"),
    ("one candidate", CANDIDATE, "alone_model"),
    ("candidates in batches", CANDIDATE, "batched_model"),
)
_LONGEST = 28


def plot_bench(bench: Bench) -> Figure:
    """Return the speed-ups of all models but the first, and, with scores, quality against cost.

    Of more models than there are colours, these come round again.
    """
    others = bench.models[1:]
    # Of a reference that scores 0 nothing can be kept.
    scored = [model for model in bench.models if model.kept and model.kept.retention is not None]
    panels = int(bool(others)) + int(bool(scored))
    with house_style():
        height = max(3.6, 1.4 + 0.22 * len(_KINDS) * max(1, len(others)))
        figure, axes = canvas(WIDTH, height, max(1, panels))
        if others:
            _draw_speed(axes[0], others, bench.models[0].name)
            figure.legend(loc="outside lower center", ncols=min(4, len(others)))
        if scored:
            _draw_quality(axes[-1], bench)
        elif not others:
            _draw_alone(axes[0], bench.models[0])
    return figure


def _draw_speed(axes: Axes, models: tuple[ModelResult, ...], reference: str) -> None:
    thick = 0.8 / len(models)
    for number, model in enumerate(models):
        timings = [getattr(model.side(side), kind) for _, side, kind in _KINDS]
        shift = (number - (len(models) - 1) / 2) * thick
        heights = [height + shift for height in range(len(_KINDS))]
        axes.barh(
            heights,
            [timing.faster.median for timing in timings],
            height=0.86 * thick,
            color=_COLOURS[number % len(_COLOURS)],
            alpha=0.85,
            label=_short(model.name),
        )
        axes.hlines(
            heights,
            [timing.faster.low for timing in timings],
            [timing.faster.high for timing in timings],
            color=LIGHT.ink,
            linewidth=1.1,
        )
        for height, timing in zip(heights, timings, strict=True):
            axes.vlines(
                timing.ideal,
                height - 0.45 * thick,
                height + 0.45 * thick,
                color=LIGHT.ink,
                linewidth=1.6,
                linestyle=(0, (1.5, 1)),
            )
    axes.axvline(1.0, color=LIGHT.muted, linewidth=0.9)
    axes.set_yticks(range(len(_KINDS)), [name for name, _, _ in _KINDS])
    axes.tick_params(axis="y", labelcolor=LIGHT.ink)
    axes.set_ylim(len(_KINDS) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"times as fast as {_short(reference)}; dashed: ratio of FLOPs")
    axes.set_title("The model's own speed")


def _draw_quality(axes: Axes, bench: Bench) -> None:
    """Draw each model at its cost and what it keeps, joined by falling cost."""
    points = sorted(
        (
            (bench.cost_per_million(model), model)
            for model in bench.models
            if model.kept is not None and model.kept.retention is not None
        ),
        key=lambda point: -point[0],
    )
    costs = [cost for cost, _ in points]
    kept = [float(model.kept.retention or 0) for _, model in points if model.kept]
    axes.plot(costs, kept, color=LIGHT.muted, linewidth=1.0, zorder=1)
    for cost, model in points:
        number = bench.models.index(model)
        colour = LIGHT.muted if number == 0 else _COLOURS[(number - 1) % len(_COLOURS)]
        assert model.kept is not None
        assert model.kept.retention is not None
        if model.kept.interval is not None and number:
            axes.vlines(cost, *model.kept.interval, color=colour, linewidth=1.4)
        axes.plot(cost, model.kept.retention, "o", color=colour, markersize=6.5, zorder=3)
        axes.annotate(
            f"{_short(model.name)}, {model.layers} layers",
            (cost, model.kept.retention),
            # Below the rising line, but for the last point, which has no room to its right.
            xytext=(7, -11) if cost < max(costs) else (-7, 7),
            textcoords="offset points",
            ha="left" if cost < max(costs) else "right",
            size=8,
        )
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: three_digits(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(sorted(set(costs)))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(f"cost of a million candidates at {bench.price_per_hour:g} an hour")
    axes.set_title(f"Kept of {_short(bench.models[0].name)}'s {bench.metric}")


def _draw_alone(axes: Axes, model: ModelResult) -> None:
    """Draw the milliseconds of one model that nothing is compared with."""
    values = [1000 * getattr(model.side(side), kind).seconds.median for _, side, kind in _KINDS]
    axes.barh(range(len(_KINDS)), values, height=0.5, color=LIGHT.first, alpha=0.85)
    axes.set_yticks(range(len(_KINDS)), [name for name, _, _ in _KINDS])
    axes.tick_params(axis="y", labelcolor=LIGHT.ink)
    axes.set_ylim(len(_KINDS) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("milliseconds each")
    axes.set_title(f"{_short(model.name)}: the model's own speed")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"
