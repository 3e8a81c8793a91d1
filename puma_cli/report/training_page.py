"""The page of a training: how it went, what it was told, and what it came to."""

from __future__ import annotations

import shlex
from pathlib import Path

from matplotlib.figure import Figure

from puma_cli.checkpoint.layout import TRAINING_PAGE, TRAINING_PLOT
from puma_cli.checkpoint.output_folder import write_text
from puma_cli.config.training_settings import NO_TEACHER
from puma_cli.report.drawing import save_png, to_svg
from puma_cli.report.numbers import duration, share
from puma_cli.report.page import Drawing, card, figure, heading, page, paragraph
from puma_cli.report.training_captions import LABELS, caption
from puma_cli.report.training_history import TrainingHistory, read_history
from puma_cli.report.training_panels import plot_optimizer, plot_speed, plot_temperatures
from puma_cli.report.training_plots import (
    plot_answers,
    plot_loss,
    plot_summary,
    plot_task_hits,
    plot_validation,
)
from puma_cli.report.training_tables import score_table, settings_table, source_table, term_table

__all__ = ["draw_figures", "render", "write_training_page", "write_training_plot"]

_HEADINGS = {
    "validation": "Validation",
    "loss": "Loss",
    "answers": "Within the batch",
    "optimizer": "Steps",
    "temperatures": "Temperatures",
    "speed": "Speed and memory",
}


def write_training_page(folder: Path) -> None:
    """Draw `training.html` in a training's output folder, from its log and `puma.json` alone.

    Raises:
        DataError: nothing was trained there, or nothing is logged yet.
        OutputError: the file cannot be written.
    """
    history = read_history(folder)
    figures = {
        name: Drawing(to_svg(drawing, name, LABELS[name]), caption(name, history))
        for name, drawing in draw_figures(history).items()
    }
    write_text(folder / TRAINING_PAGE, render(history, figures, str(folder)))


def write_training_plot(history: TrainingHistory, folder: Path) -> None:
    """Draw `training.png`, loss and validation in one small picture."""
    save_png(plot_summary(history), folder / TRAINING_PLOT, dpi=100)


def draw_figures(history: TrainingHistory) -> dict[str, Figure]:
    """Return the figures that the log has numbers for, by name."""
    figures = {
        "validation": plot_validation(history) if history.best else None,
        "tasks": plot_task_hits(history),
        "loss": plot_loss(history),
        "answers": plot_answers(history),
        "optimizer": plot_optimizer(history),
        "temperatures": plot_temperatures(history),
        "speed": plot_speed(history),
    }
    return {name: drawing for name, drawing in figures.items() if drawing is not None}


def render(history: TrainingHistory, figures: dict[str, Drawing], output_dir: str) -> str:
    """Return the page as one HTML document.

    Args:
        history: what was logged.
        figures: by name, from `draw_figures`.
        output_dir: the training's folder, for the command to type next.
    """
    sections = [_summary(history, output_dir)]
    for name, drawing in figures.items():
        if name in _HEADINGS:
            sections.append(heading(_HEADINGS[name]))
        sections.append(figure(drawing))
        if name == "loss":
            sections.append(term_table(history))
        # Below the map of tasks, or below the mean where there is no map.
        if name == ("tasks" if "tasks" in figures else "validation"):
            sections += [paragraph("The weights that are kept:"), score_table(history)]
    changed = history.changes()
    sections += [
        heading("Settings"),
        settings_table(changed) if changed else paragraph("All settings are the defaults."),
        heading("Where it came from"),
        source_table(history),
    ]
    return page(
        f"Training of {history.name}",
        _subtitle(history),
        sections,
        "Written by puma distill. log.jsonl holds these numbers, puma.json how they came about.",
    )


def _subtitle(history: TrainingHistory) -> str:
    student, teacher = history.settings.get("student", "a model"), history.setting("teacher")
    taught = "without a teacher" if teacher == NO_TEACHER else f"taught by {teacher}"
    size, data = history.setting("batch.size"), history.settings.get("data", "its data")
    seconds = history.series("seconds").values
    time = f" in {duration(seconds[-1])}" if seconds else ""
    return f"{student}, {taught} on {data}: {history.steps:,} steps of {size} queries{time}."


def _summary(history: TrainingHistory, output_dir: str) -> str:
    paragraphs = []
    left = history.series("seconds_left").values
    if not history.finished:
        paragraphs.append(
            f"The training has come to step {history.steps:,}"
            + (f"; about {duration(left[-1])} are left." if left and left[-1] else ".")
        )
    if history.best is None:
        headline = "The last weights are kept: there was no validation."
    else:
        step, score = history.best
        headline = f"Best at step {step:,}: validation hit@1 {score:.1%}"
        headline += (
            f", {share(score, history.teacher)} of the teacher's {history.teacher:.1%}."
            if history.teacher
            else "."
        )
        if history.finished:
            paragraphs.append(
                "The step was chosen on these very queries; the test split says what it is worth:"
            )
    data = history.settings.get("data")
    command = ""
    if history.finished and data:
        command = shlex.join(["puma", "eval", output_dir, "--data", str(data)])
        if history.best is None:
            paragraphs.append("What they are worth, the test split says:")
    return card(headline, paragraphs, command)
