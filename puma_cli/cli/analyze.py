"""`puma analyze`: measure every decoder layer of a model and recommend where to cut."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import puma_cli
from puma_cli.cli import options
from puma_cli.cli.naming import short_name
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session
from puma_cli.interruption import StopRequest

if TYPE_CHECKING:
    from puma_cli.config.settings import AnalyzeSettings
    from puma_cli.profiling.profile import LayerProfile


def analyze(
    ctx: typer.Context,
    model: options.Model = None,
    data: options.Data = None,
    output_dir: Annotated[Path | None, options.output_dir("profile-MODEL")] = None,
    split: Annotated[str | None, options.split("val")] = None,
    tasks: options.Tasks = None,
    limit: options.Limit = None,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Queries in all, drawn evenly from the tasks.  [default: 2000]"
        ),
    ] = None,
    pool_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Most candidates of a task's pool.  [default: 10000]"),
    ] = None,
    bridge_rows: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Training inputs that bridges are fitted on, 0 for none.  [default: 8000]",
        ),
    ] = None,
    keep_last: Annotated[
        bool | None,
        typer.Option(
            "--keep-last/--no-keep-last",
            help="Also measure cuts that keep the last layer.  [default: keep-last]",
        ),
    ] = None,
    tokens: Annotated[
        bool | None,
        typer.Option(
            "--tokens/--no-tokens",
            help="Also measure similarity at other tokens, and CKA.  [default: tokens]",
        ),
    ] = None,
    target_retention: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the full model's score that the trained cut is to keep, such as 0.97.",
        ),
    ] = None,
    max_parameters: Annotated[
        str | None,
        typer.Option(metavar="N", help="Most parameters of the cut, such as 4B or 350M."),
    ] = None,
    max_latency: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Most milliseconds of the cut for one query alone."),
    ] = None,
    batch_size: options.BatchSize = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    dry_run: Annotated[
        bool | None,
        typer.Option("--dry-run", help="Say what it would take, and run nothing."),
    ] = None,
    overwrite: options.Overwrite = None,
    full_hash: options.FullHash = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure every layer of MODEL and recommend where to cut.

    Ctrl-C while cuts are scored ends early: the profile is of what was scored, and says so.

    Example: puma analyze puma-mini --data scenes
    """
    with session(ctx, shared=True) as run:
        settings = run.settings(puma_cli.AnalyzeSettings, complete=_default_folder)
        if settings.dry_run:
            run.finish(_dry_outcome(settings))
            return
        run.on_interrupt("Nothing was scored yet. Once cuts are scored, a stop keeps the results.")
        stop = StopRequest()
        profile = puma_cli.analyze(settings, run.reporter, stop)
        run.finish(_outcome(profile, settings.output_dir))
        if profile.measured.stopped:
            raise typer.Exit(stop.exit_code)


def _default_folder(given: Mapping[str, Any]) -> Mapping[str, Any]:
    # Of a model that is missing, the error names the model alone: the folder has a default.
    return {"output_dir": f"profile-{short_name(given.get('model', ''))}"}


def _dry_outcome(settings: AnalyzeSettings) -> Outcome:
    from dataclasses import asdict

    from puma_cli.profiling.plan import plan_analysis
    from puma_cli.report.numbers import size_on_disk

    plan = plan_analysis(settings)
    rows = [
        ("decoder layers, width", f"{plan.depth}, {plan.width}"),
        ("queries, candidates", f"{plan.queries:,}, {plan.candidates:,}"),
        ("training inputs for bridges", f"{plan.training_rows:,}"),
        ("passes over these", str(plan.passes)),
        *((part, size_on_disk(size)) for part, size in plan.memory.items()),
        ("in all, beside the model", size_on_disk(sum(plan.memory.values()))),
        ("bridges on disk", size_on_disk(plan.written)),
    ]
    return Outcome(
        value=str(sum(plan.memory.values())),
        payload=asdict(plan),
        body=(
            Table(("", "needs"), rows, title=f"{settings.model} on {settings.data}"),
            "Dry run: nothing was measured or written.",
        ),
    )


def _outcome(profile: LayerProfile, folder: Path) -> Outcome:
    from puma_cli.checkpoint.provenance import to_plain
    from puma_cli.profiling.recommendation.explained_choice import NO_CUT
    from puma_cli.report.profile_page import depth_headers, depth_rows, prune_command

    choice = profile.choice
    k = choice.k
    which = f"the first {k - 1} and the last" if choice.keep_last else f"the first {k}"
    advice = f"Recommended: keep {which} of {profile.depth} layers. {profile.reason}"
    if choice.rule in NO_CUT:
        advice = profile.reason
    partial = ": PARTIAL, a limited number of queries" if profile.partial else ""
    if profile.measured.stopped:
        partial = ": PARTIAL, stopped early"
    return Outcome(
        value=str(folder),
        payload={"output_dir": str(folder), "recommended": k, **to_plain(profile)},
        body=(
            Table(
                depth_headers(profile),
                depth_rows(profile),
                title=f"{profile.model} on {profile.data}, {profile.split}{partial}",
                strong=(k - 1,),
            ),
            advice,
            *([f"Runner-up: {choice.runner_up_reason}"] if choice.runner_up is not None else []),
            *profile.doubts,
            f"Report: {folder / 'report.html'}",
        ),
        next_command=prune_command(profile, str(folder)),
    )
