"""`puma distill`: train a cut model, taught by the whole one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import puma_cli
from puma_cli.checkpoint.layout import TRAINING_PAGE
from puma_cli.cli import options
from puma_cli.cli.naming import puma
from puma_cli.cli.output import Outcome
from puma_cli.cli.session import Session, session
from puma_cli.cli.stages import came_to, run_stages, share_stages, training_payload

if TYPE_CHECKING:
    from puma_cli.config.stages import TrainingStage
    from puma_cli.config.training_settings import DistillSettings
    from puma_cli.distillation.distill import DistillResult
    from puma_cli.progress import Reporter

# Flags for the settings that people change most; all others are reached with --set.
_NESTED = {
    "steps": "train.steps",
    "epochs": "train.epochs",
    "batch_size": "batch.size",
    "learning_rate": "optimizer.learning_rate",
    "lora_rank": "lora.rank",
    "loss": "loss.contrastive",
    "on_bad_image": "batch.bad_images",
    "max_pixels": "batch.max_pixels",
}


def distill(
    ctx: typer.Context,
    student: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDENT",
            help="A pruned checkpoint, or `fresh` for a model that starts from nothing.",
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The model at full depth, a folder of its embeddings, or `none` to learn from "
            "the data alone.  "
            "[default: none]",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Pairs in a .jsonl, .parquet or .csv file or a folder of them; or a data set in "
            "the M-BEIR layout.",
        ),
    ] = None,
    output_dir: Annotated[Path | None, options.output_dir()] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Optimizer steps, instead of epochs.")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(metavar="N", help="Passes over the training queries.  [default: 2.0]"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Queries in a batch.  [default: 96]")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Its peak.  [default: 0.0002]")
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(metavar="R", help="Rank of adapters; 0 trains all weights.  [default: 0]"),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The contrastive part: info_nce or mac.  [default: info_nce]"
        ),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Reduce images to this area at most.  [default: the student's]"
        ),
    ] = None,
    tasks: options.Tasks = None,
    stop_after: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Stop then, with state saved.")
    ] = None,
    resume: Annotated[
        bool | None, typer.Option("--resume", help="Go on from the state in --output-dir.")
    ] = None,
    dry_run: Annotated[
        bool | None,
        typer.Option("--dry-run", help="Say what it would take, from a few steps; keep nothing."),
    ] = None,
    on_bad_image: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="error, or skip: leave out what shows an image that cannot be read.  "
            "[default: error]",
        ),
    ] = None,
    num_processes: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Processes on this machine, a GPU each.  [default: 1]"
        ),
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    overwrite: options.Overwrite = None,
    full_hash: options.FullHash = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train STUDENT on a data set, taught by a deeper model.

    Of a table of pairs, columns with the usual names are read; others are named with
    --set pairs.query_text=COLUMN and so on.

    Without a word on the loss, a teacher is learnt from with the paper's weights:
    0.9 InfoNCE + 0.005 MSE. Settings without a flag are reached with --set; --print-config shows
    them all. A recipe may have several stages, each of which starts from the student of the one
    before; --set stages.NAME.train.steps=10 is for one of them.

    Example: puma distill pruned --teacher puma-mini --data scenes -o student --config demo
    """
    with session(ctx, shared=True) as run:
        stages = _stages(run)
        if stages:
            share_stages(run, stages, num_processes)
            if stages[0].settings.dry_run:
                run.finish(_dry_stages(stages, run.reporter))
                return
            scored = puma(
                "eval",
                stages[0].settings.output_dir,
                "--data",
                _scored_on(stages[-1].settings.data),
            )
            run_stages(run, stages, scored)
            return
        settings = run.settings(puma_cli.DistillSettings, nested=_NESTED, complete=_defaults)
        if num_processes is not None and num_processes > 1:
            raise typer.Exit(run.share(settings, num_processes))
        if settings.dry_run:
            run.finish(_dry_outcome(settings, run.reporter))
            return
        result = puma_cli.distill(settings, run.reporter)
        run.finish(_outcome(result, settings))


def _stages(run: Session) -> tuple[TrainingStage, ...]:
    """Return the stages of a recipe that has any."""
    from puma_cli.config.stages import load_stages

    return load_stages(
        config=run.params.get("config"),
        overrides=run.params.get("overrides") or (),
        flags=run.flags(puma_cli.DistillSettings, _NESTED),
        complete=_defaults,
    )


def _defaults(given: Mapping[str, Any]) -> Mapping[str, Any]:
    # A dry run writes nothing, so nobody should have to say where.
    folder = {"output_dir": "student"} if given.get("dry_run") else {}
    return {**folder, **_paper_loss(given)}


def _dry_outcome(settings: DistillSettings, reporter: Reporter, trained: bool = False) -> Outcome:
    from puma_cli.cli.training_forecast import forecast_outcome
    from puma_cli.distillation.forecast.forecast import forecast_training

    found = forecast_training(settings, reporter, trained=trained)
    return forecast_outcome(found, settings)


def _dry_stages(stages: Sequence[TrainingStage], reporter: Reporter) -> Outcome:
    """Forecast each stage as if it began from the student that was given."""
    from puma_cli.config.stages import check_stages

    check_stages(stages)
    found = {
        stage.name: _dry_outcome(stage.settings, reporter, trained=number > 0)
        for number, stage in enumerate(stages)
    }
    titles = {name: f"Stage {name}" for name in found}
    for stage in stages[1:]:
        titles[stage.name] += f", as if it began from {stage.settings.student}"
    return Outcome(
        value="\n".join(each.value for each in found.values()),
        payload={"stages": {name: each.payload for name, each in found.items()}},
        body=tuple(part for name, each in found.items() for part in (titles[name], *each.body)),
    )


def _paper_loss(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """With a teacher and no word on how to learn from it, take the paper's weights."""
    from puma_cli.config.training_settings import DISTILLING

    if given.get("teacher", "none") == "none":
        return {}
    if set(DISTILLING) & given.get("loss", {}).keys():
        return {}
    return {"loss.contrastive_weight": 0.9, "loss.mse": 0.1 * 0.05}


def _outcome(result: DistillResult, settings: DistillSettings) -> Outcome:
    page = result.folder / TRAINING_PAGE
    ended = came_to(result)
    return Outcome(
        value=str(result.folder),
        payload=training_payload(result),
        body=(
            ended[0].upper() + ended[1:],
            f"Model: {result.folder}",
            *([f"How it went: {page}"] if page.is_file() else []),
        ),
        next_command=puma("eval", result.folder, "--data", _scored_on(settings.data))
        if result.finished
        else "the same command with --resume",
    )


def _scored_on(data: Path) -> Path | str:
    """Return the data that `puma eval` can score on: it reads no tables of pairs."""
    from puma_cli.checkpoint import kinds

    return data if kinds.tell_kind(data) == kinds.DATA else "DATA"
