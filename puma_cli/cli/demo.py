"""`puma demo`: the whole path in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import puma_cli
from puma_cli.cli import options
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session

if TYPE_CHECKING:
    from puma_cli.demo.result import DemoResult


def demo(
    ctx: typer.Context,
    output_dir: Annotated[Path | None, options.output_dir("puma-demo")] = None,
    fast: Annotated[
        bool | None, typer.Option("--fast", help="Less data and fewer steps: about three minutes.")
    ] = None,
    device: options.Device = None,
    seed: options.Seed = None,
    overwrite: options.Overwrite = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Run the whole path on puma-mini, in about ten minutes.

    It draws a data set, then profiles, cuts, distils and scores, on two cores if need be.

    A demo that was stopped goes on from its last finished stage: type the same command again.

    Example: puma demo --fast
    """
    with session(ctx) as run:
        run.on_interrupt("Type the same command again to go on from the last finished stage.")
        settings = run.settings(puma_cli.DemoSettings)
        result = puma_cli.run_demo(settings, run.reporter)
        run.finish(_outcome(result))


def _outcome(result: DemoResult) -> Outcome:
    from puma_cli.checkpoint.provenance import to_plain
    from puma_cli.report.demo_page import score_cells, score_headers

    metrics = ("hit@1", "hit@5")
    return Outcome(
        value=str(result.page),
        payload=to_plain(result),
        body=(
            Table(
                score_headers(metrics),
                score_cells(result.rows, metrics),
                title=result.title,
                strong=(len(result.rows) - 1,),
            ),
            *result.notes,
            f"Report: {result.page}",
        ),
        next_command=result.search,
    )
