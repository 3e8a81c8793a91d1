"""`puma distill` with a recipe of several stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

import puma_cli
from puma_cli.checkpoint.layout import LAYOUT, TRAINING_PAGE
from puma_cli.cli.naming import percent
from puma_cli.cli.output import Outcome
from puma_cli.cli.session import Session
from puma_cli.report.numbers import duration

if TYPE_CHECKING:
    from puma_cli.config.stages import TrainingStage
    from puma_cli.distillation.distill import DistillResult
    from puma_cli.distillation.stages import StagesResult


def share_stages(run: Session, stages: Sequence[TrainingStage], num_processes: int | None) -> None:
    """Print the settings of all stages or start several processes, if that is asked for.

    Raises:
        typer.Exit: there is no more to do here.
    """
    from puma_cli.checkpoint.provenance import to_plain
    from puma_cli.config.stages import fold

    recipe = fold({stage.name: to_plain(stage.settings) for stage in stages})
    run.print_config(recipe)
    if num_processes is not None and num_processes > 1:
        raise typer.Exit(run.share(recipe, num_processes))


def run_stages(run: Session, stages: Sequence[TrainingStage], next_command: str) -> None:
    """Train stage after stage, and tell what they came to.

    Args:
        next_command: what to type when all are finished.
    """
    folder = stages[0].settings.output_dir
    try:
        result = puma_cli.distill_stages(stages, run.reporter)
    except KeyboardInterrupt:
        if (folder / LAYOUT.training_stages).is_file():
            run.on_interrupt("Go on with the same command and --resume.")
        raise
    run.finish(_outcome(result, next_command))


def _outcome(result: StagesResult, next_command: str) -> Outcome:
    page = result.folder / TRAINING_PAGE
    return Outcome(
        value=str(result.folder),
        payload={
            "output_dir": str(result.folder),
            "steps": result.steps,
            "seconds": result.seconds,
            "finished": result.finished,
            "stages": [
                {"name": name, **training_payload(stage)} for name, stage in result.stages.items()
            ],
        },
        body=(
            *(f"{name}: {came_to(stage)}" for name, stage in result.stages.items()),
            f"Model: {result.folder}",
            *([f"How it went: {page}"] if page.is_file() else []),
        ),
        next_command=next_command if result.finished else "the same command with --resume",
    )


def training_payload(result: DistillResult) -> dict[str, object]:
    """Return what a script is told of one training."""
    return {
        "output_dir": str(result.folder),
        "steps": result.steps,
        "best_step": result.best_step,
        "best_score": result.best_score,
        "seconds": result.seconds,
        "finished": result.finished,
    }


def came_to(result: DistillResult) -> str:
    """Say in half a sentence how one training ended."""
    state = "trained" if result.finished else "stopped, with state saved, after"
    best = (
        "no validation"
        if result.best_score is None
        else f"best at step {result.best_step}: mean validation hit@1 {percent(result.best_score)}"
    )
    return f"{state} {result.steps} steps in {duration(result.seconds)}; {best}."
