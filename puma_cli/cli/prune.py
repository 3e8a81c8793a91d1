"""`puma prune`: write a checkpoint with fewer decoder layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import puma_cli
from puma_cli.cli import options
from puma_cli.cli.naming import puma
from puma_cli.cli.output import Outcome
from puma_cli.cli.session import session

if TYPE_CHECKING:
    from puma_cli.config.settings import PruneSettings
    from puma_cli.pruning.prune import PruneResult


def prune(
    ctx: typer.Context,
    model: options.Model = None,
    output_dir: Annotated[Path | None, options.output_dir()] = None,
    keep: Annotated[
        int | None, typer.Option(metavar="K", help="Keep the first K decoder layers.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Keep these layers, counted from 0, such as 0-2,11."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep as many as `puma analyze` recommends there."),
    ] = None,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Prove that the result computes what its parent does.  [default: verify]",
        ),
    ] = None,
    dry_run: Annotated[
        bool | None, typer.Option("--dry-run", help="Print the plan and write nothing.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where to verify.  [default: cpu]"),
    ] = None,
    overwrite: options.Overwrite = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write MODEL with fewer decoder layers, as a stock checkpoint.

    Example: puma prune puma-mini --keep 4 --output-dir pruned
    """
    with session(ctx) as run:
        settings = run.settings(puma_cli.PruneSettings)
        result = puma_cli.prune(settings, run.reporter)
        run.finish(_outcome(result, settings))


def _outcome(result: PruneResult, settings: PruneSettings) -> Outcome:
    raise AssertionError
