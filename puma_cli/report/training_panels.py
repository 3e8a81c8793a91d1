"""The figures of a training's machinery: learning rate, gradients, temperatures, speed, memory."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from puma_cli.data.records import MODALITIES
from puma_cli.report.drawing import LIGHT, MODALITY_COLOURS, canvas, house_style
from puma_cli.report.numbers import count, size_on_disk
from puma_cli.report.plots import WIDTH
from puma_cli.report.training_history import Series, TrainingHistory
from puma_cli.report.training_plots import draw_line, step_axis

TEMPERATURE, SHARPENING = "temperature", "sharpening"
_DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.6)), (0, (1, 1.2)))
# From this ratio of the largest to the smallest on, a linear scale would hide the small ones.
_WIDE = 20.0


def plot_optimizer(history: TrainingHistory) -> Figure | None:
    """Return learning rate and gradient norm, the norm with the limit it is clipped to."""
    rate, norm = history.series("learning_rate"), history.series("gradient_norm")
    if not rate or not norm:
        return None
    with house_style():
        figure, axes = canvas(WIDTH, 3.0, columns=2)
        draw_line(axes[0], rate, LIGHT.first)
        axes[0].set_ylim(0, 1.08 * max(rate.values) or 1.0)
        axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        axes[0].set_ylabel("learning rate")
        axes[0].set_title("Learning rate")
        clip = float(history.setting("optimizer.clip"))
        draw_line(axes[1], norm, LIGHT.third)
        low, high = min(norm.values), max(norm.values)
        if low > 0 and high > _WIDE * low:
            axes[1].set_yscale("log")
        else:
            axes[1].set_ylim(0, 1.1 * max(high, clip))
        axes[1].axhline(clip, color=LIGHT.mark, linewidth=1.2, linestyle=(0, (4, 3)))
        axes[1].set_ylabel("norm")
        axes[1].set_title(f"Gradient; the dashes mark the limit {clip:g}")
        for place in axes:
            step_axis(place, history)
    return figure


def plot_temperatures(history: TrainingHistory) -> Figure | None:
    """Return the temperatures that move and the sharpening, or None where both stay."""
    single, table = history.series(TEMPERATURE), history.named(TEMPERATURE)
    moving = {"": single} if single.varies else {k: s for k, s in table.items() if s.varies}
    sharpening = history.series(SHARPENING)
    panels = [bool(moving), sharpening.varies]
    if not any(panels):
        return None
    with house_style():
        figure, axes = canvas(WIDTH, 3.6 if len(moving) > 1 else 2.9, columns=sum(panels))
        if moving:
            for name, found in moving.items():
                draw_line(axes[0], found, **_temperature_line(name))
            axes[0].set_ylabel("temperature")
            axes[0].set_title("Temperature")
            axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        if sharpening.varies:
            draw_line(axes[-1], sharpening, LIGHT.mark)
            axes[-1].set_ylim(0, 1.04)
            axes[-1].set_ylabel("factor")
            axes[-1].set_title("Sharpening within a modality")
        for place in axes:
            step_axis(place, history)
        if len(moving) > 1:
            figure.legend(loc="outside lower center", ncols=3)
    return figure


def plot_speed(history: TrainingHistory) -> Figure | None:
    """Return pairs and tokens a second and the memory held, as far as the log has them."""
    panels: list[tuple[str, str, Series, Any, str]] = [
        (title, label, found, say, colour)
        for title, label, name, say, colour in (
            ("Pairs", "a second", "pairs_per_second", _say_count, LIGHT.first),
            ("Tokens", "a second", "tokens_per_second", _say_count, LIGHT.second),
            ("Most memory held", "bytes", "memory_bytes", _say_bytes, LIGHT.third),
        )
        if (found := history.series(name))
    ]
    if not panels:
        return None
    with house_style():
        figure, axes = canvas(WIDTH, 2.7, columns=len(panels))
        for place, (title, label, found, say, colour) in zip(axes, panels, strict=True):
            draw_line(place, found, colour)
            place.set_ylim(0, 1.12 * max(found.values) or 1.0)
            place.yaxis.set_major_locator(MaxNLocator(5))
            place.yaxis.set_major_formatter(FuncFormatter(say))
            place.set_ylabel(label)
            place.set_title(title)
            step_axis(place, history)
    return figure


def _temperature_line(name: str) -> dict[str, Any]:
    if not name:
        return {"colour": LIGHT.first}
    query, _, candidate = name.partition(" > ")
    return {
        "colour": MODALITY_COLOURS.get(query, LIGHT.ink),
        "label": name.replace(">", "→"),
        "linestyle": _DASHES[MODALITIES.index(candidate)] if candidate in MODALITIES else "solid",
    }


def _say_count(value: float, _: int | None = None) -> str:
    return count(round(value)) if value >= 10 else f"{value:.3g}"


def _say_bytes(value: float, _: int | None = None) -> str:
    return size_on_disk(round(value))
