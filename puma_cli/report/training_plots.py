"""The figures of a training's quality: validation, loss, and answers within the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from puma_cli.distillation.validation import STUDENT, TEACHER
from puma_cli.evaluation.tasks import evenly
from puma_cli.report.drawing import LIGHT, canvas, house_style
from puma_cli.report.heat_map import draw_cells, draw_scale, map_canvas
from puma_cli.report.plots import WIDTH, cut_line, mark_cells
from puma_cli.report.training_history import Series, TrainingHistory

# More points than a figure can show would only make the page heavier.
_POINTS = 240
_DOTTED = 40
# Columns of the map of tasks, and up to how many of them hold numbers.
_COLUMNS, _NUMBERED = 32, 13
_TERMS = (LIGHT.first, LIGHT.second, LIGHT.third, LIGHT.mark, LIGHT.muted)


def plot_validation(history: TrainingHistory) -> Figure:
    """Return the mean hit@1 of every validation, beside the teacher's where it is known."""
    with house_style():
        figure, (axes,) = canvas(WIDTH, 3.4)
        draw_validation(axes, history)
        if history.teacher:
            other = axes.secondary_yaxis("right", functions=_shares_of(history.teacher))
            other.set_ylabel("of the teacher's")
            other.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_title("Mean over tasks", pad=22.0)
    return figure


def draw_validation(axes: Axes, history: TrainingHistory) -> None:
    """Draw the course of the mean hit@1, the best step and the teacher."""
    found, best = history.series(STUDENT), history.best
    top = max(found.values)
    draw_line(axes, found, LIGHT.first)
    if best is not None:
        axes.axvline(best[0], **cut_line())
        right = best[0] > 0.5 * history.steps
        axes.annotate(
            f"best: step {best[0]:,}, {best[1]:.1%}",
            (best[0], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3 if right else -3, 4),
            textcoords="offset points",
            ha="right" if right else "left",
            color=LIGHT.mark,
            fontweight="bold",
        )
    if history.teacher is not None:
        top = max(top, history.teacher)
        axes.axhline(history.teacher, color=LIGHT.muted, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.annotate(
            f"teacher {history.teacher:.1%}",
            (0.0, history.teacher),
            xycoords=("axes fraction", "data"),
            xytext=(3, 3),
            textcoords="offset points",
            color=LIGHT.muted,
            fontweight="bold",
        )
    axes.set_ylim(0, min(1.04, 1.12 * top) or 1.0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("mean hit@1")
    step_axis(axes, history)


def plot_task_hits(history: TrainingHistory) -> Figure | None:
    """Return a map of hit@1 by task (rows) and validation (columns), or None of a single task."""
    tasks, best = history.named(STUDENT), history.best
    if len(tasks) < 2 or best is None:
        return None
    every = history.series(STUDENT).steps
    steps = sorted({*evenly(every, _COLUMNS), best[0], every[-1]})
    teacher = history.named(TEACHER)
    rows = [*tasks.items(), ("mean", history.series(STUDENT))]
    means = {**teacher, "mean": history.series(TEACHER)}
    last = len(steps) + 0.4  # the teacher's column stands apart
    cells = []
    for row, (name, found) in enumerate(rows):
        known = dict(zip(found.steps, found.values, strict=True))
        cells += [(float(x), row, known[step]) for x, step in enumerate(steps) if step in known]
        if teacher and name in means and means[name]:
            cells.append((last, row, means[name].values[0]))
    with house_style():
        figure, (axes, scale) = map_canvas(WIDTH, 1.15 + 0.3 * len(rows))
        draw_cells(axes, cells)
        places = [float(x) for x in range(len(steps))]
        names = [f"{step:,}" for step in steps]
        if teacher:
            places, names = [*places, last], [*names, "teacher"]
        if len(places) <= _NUMBERED:
            scale.remove()
            for x, row, value in cells:
                axes.text(x, row, f"{100 * value:.0f}", ha="center", va="center_baseline")
            axes.set_xticks(places, names)
        else:
            draw_scale(scale, 0.0, 1.0, "hit@1")
            chosen = [*evenly(range(len(steps)), 7)]
            # Room for the teacher's name, which every comparison needs.
            if teacher:
                chosen = [x for x in chosen if x < len(steps) - 4] + [len(places) - 1]
            axes.set_xticks([places[x] for x in chosen], [names[x] for x in chosen])
        mark_cells(axes, steps.index(best[0]) - 0.5, -0.5, 1, len(rows))
        axes.set_xlim(-0.55, places[-1] + 0.55)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.tick_params(axis="y", labelcolor=LIGHT.ink)
        axes.spines["bottom"].set_visible(False)
        axes.grid(False)
        axes.set_xlabel("step")
        axes.set_ylabel("task")
        axes.set_title("hit@1 of each task; the frame marks the best step")
    return figure


def plot_loss(history: TrainingHistory) -> Figure:
    """Return the loss with what each term adds to it."""
    with house_style():
        figure, (axes,) = canvas(WIDTH, 3.6)
        draw_loss(axes, history)
        axes.set_title("Loss, and what each term adds to it")
        figure.legend(loc="outside lower center", ncols=6)
    return figure


def draw_loss(axes: Axes, history: TrainingHistory) -> None:
    """Draw the loss above the stacked shares of its terms."""
    loss = history.series("loss")
    shares = {
        name: (weight, found)
        for name, weight in history.weights().items()
        if (found := history.series(name)).steps == loss.steps
    }
    steps, total = loss.thinned(_POINTS)
    below = [0.0] * len(steps)
    for colour, (name, (weight, found)) in zip(_TERMS, shares.items(), strict=False):
        _, values = found.thinned(_POINTS)
        above = [low + weight * value for low, value in zip(below, values, strict=True)]
        axes.fill_between(
            steps, below, above, color=colour, alpha=0.55, linewidth=0, label=f"{weight:g} × {name}"
        )
        below = above
    axes.plot(steps, total, label="loss", **_line(LIGHT.ink, len(steps), 1.4))
    axes.set_ylim(0, 1.06 * max(total) or 1.0)
    axes.set_ylabel("loss")
    step_axis(axes, history)


def plot_answers(history: TrainingHistory) -> Figure | None:
    """Return how many answers are found within the batch, and how much of it is left out."""
    kinds = {
        "accuracy": ("among all negatives", LIGHT.ink),
        "intra": ("of the same modality", LIGHT.first),
        "inter": ("of others", LIGHT.second),
    }
    shown = {name: found for name in kinds if (found := history.series(name))}
    masked = history.series("masked")
    if not shown:
        return None
    # In batches of one modality all negatives are of the same: two curves would hide one another.
    whole = shown.get("accuracy")
    shown = {name: found for name, found in shown.items() if name == "accuracy" or found != whole}
    with house_style():
        figure, axes = canvas(WIDTH, 3.4, columns=2 if masked else 1)
        for name, found in shown.items():
            label, colour = kinds[name]
            draw_line(axes[0], found, colour, label)
        axes[0].set_ylim(0, 1.04)
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes[0].set_ylabel("queries")
        axes[0].set_title("Answers found in the batch")
        step_axis(axes[0], history)
        if masked:
            draw_line(axes[1], masked, LIGHT.third)
            axes[1].set_ylim(0, 1.1 * max(masked.values) or 1.0)
            axes[1].yaxis.set_major_formatter(StrMethodFormatter("{x:.2%}"))
            axes[1].set_ylabel("pairs")
            axes[1].set_title("Left out of the loss")
            step_axis(axes[1], history)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def plot_summary(history: TrainingHistory) -> Figure:
    """Return loss and validation side by side, small, for a model card."""
    validated = bool(history.series(STUDENT))
    with house_style():
        figure, axes = canvas(WIDTH, 3.2, columns=2 if validated else 1)
        draw_loss(axes[0], history)
        axes[0].set_title("Loss", pad=22.0)
        if validated:
            draw_validation(axes[1], history)
            axes[1].set_title("Validation", pad=22.0)
        figure.legend(loc="outside lower center", ncols=6)
    return figure


def draw_line(axes: Axes, found: Series, colour: str, label: str = "", **more: Any) -> None:
    """Draw a quantity's course, every point where there are few."""
    steps, values = found.thinned(_POINTS)
    axes.plot(steps, values, label=label or "_", **_line(colour, len(steps)), **more)


def step_axis(axes: Axes, history: TrainingHistory) -> None:
    """Let the axis run over all steps of the training so far."""
    axes.set_xlim(0, 1.05 * history.steps)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("step")


def _shares_of(whole: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the way from values to shares of a whole (> 0), and back."""
    return (lambda values: values / whole), (lambda shares: shares * whole)


def _line(colour: str, points: int, width: float = 1.8) -> dict[str, Any]:
    few = {"marker": "o", "markersize": 3.5} if points <= _DOTTED else {}
    return {"color": colour, "linewidth": width, **few}
