"""`puma mine`: hard negatives for a training, found by a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import puma_cli
from puma_cli.cli import options
from puma_cli.cli.naming import puma, short_name
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session

if TYPE_CHECKING:
    from puma_cli.config.settings import MineSettings
    from puma_cli.mining.summary import MineResult


def mine(
    ctx: typer.Context,
    model: options.Model = None,
    data: options.Data = None,
    output_dir: Annotated[Path | None, options.output_dir("mined-DATA")] = None,
    negatives: Annotated[
        int | None, typer.Option(metavar="N", help="Most negatives of a query.  [default: 8]")
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="task (candidates of the data set and modality of a query's positives) or union "
            "(all).  [default: task]",
        ),
    ] = None,
    relative_margin: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of its positive's cosine that a negative may reach; "
            "`--set relative_margin=none` for no bound.  [default: 0.95]",
        ),
    ] = None,
    max_score: Annotated[
        float | None, typer.Option(metavar="COSINE", help="Highest cosine of a negative.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(metavar="COSINE", help="Lowest cosine of a negative.")
    ] = None,
    skip: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pass over the first N ranks.  [default: 0]"),
    ] = None,
    sample: Annotated[
        bool | None,
        typer.Option("--sample", help="Draw from more of the first ranks, by the seed."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(metavar="N", help="Ranks that `--sample` draws from.  [default: 100]"),
    ] = None,
    keep_existing: Annotated[
        bool | None,
        typer.Option("--keep-existing", help="Append to the negatives that the data name."),
    ] = None,
    tasks: options.Tasks = None,
    instruction: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Each query's prompt: first, or seeded draw.  [default: first]"
        ),
    ] = None,
    batch_size: options.BatchSize = None,
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
    """Find hard negatives for training with MODEL.

    The result is the data set with negatives for its training queries: puma distill uses them with
    --set batch.negatives=2.

    Example: puma mine puma-mini --data scenes --output-dir mined
    """
    with session(ctx, shared=True) as run:
        settings = run.settings(puma_cli.MineSettings, complete=_default_folder)
        run.on_interrupt("Nothing was written; the same command starts over.")
        result = puma_cli.mine(settings, run.reporter)
        run.finish(_outcome(result, settings))


def _default_folder(given: Mapping[str, Any]) -> Mapping[str, Any]:
    # Of data that are missing, the error names the data alone: the folder has a default.
    return {"output_dir": f"mined-{short_name(str(given.get('data', '')))}"}


def _outcome(result: MineResult, settings: MineSettings) -> Outcome:
    from puma_cli.checkpoint.provenance import to_plain
    from puma_cli.mining.summary import COLUMNS

    rows = result.rows()
    return Outcome(
        value=str(result.folder),
        payload={
            "output_dir": str(result.folder),
            "tasks": to_plain(result.tasks),
            "total": to_plain(result.total),
        },
        body=(
            Table(
                COLUMNS,
                rows,
                title=f"Negatives for {settings.data}, found by {settings.model}",
                strong=(len(rows) - 1,) if len(rows) > 1 else (),
            ),
            *result.reasons(),
            f"Data set: {result.folder}",
        ),
        next_command=puma(
            "distill",
            "STUDENT",
            "--teacher",
            settings.model,
            "--data",
            result.folder,
            "--output-dir",
            "student",
            "--set",
            "batch.negatives=2",
        ),
    )
