"""`puma data`: data sets that puma can make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import puma_cli
from puma_cli.cli import options
from puma_cli.cli.naming import puma
from puma_cli.cli.output import Outcome
from puma_cli.cli.session import session

app = typer.Typer(help="Make data sets.", no_args_is_help=True, rich_markup_mode=None, name="data")


@app.callback()
def _group() -> None:
    pass


@app.command()
def scenes(
    ctx: typer.Context,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", metavar="DIR", help="Folder for the data set.")
    ],
    train_scenes: Annotated[
        int, typer.Option(metavar="N", help="Training scenes, one query a task each.", min=1)
    ] = 10_000,
    test_targets: Annotated[
        int, typer.Option(metavar="N", help="Test queries a task.", min=1)
    ] = 200,
    val_targets: Annotated[
        int, typer.Option(metavar="N", help="Validation queries a task.", min=1)
    ] = 60,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the drawing.", min=0)] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a data set that is already there.")
    ] = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Draw `scenes`, a benchmark of eight retrieval tasks.

    Its pictures are of coloured shapes, with captions and edits.

    Example: puma data scenes --output-dir scenes
    """
    with session(ctx) as run:
        folder = puma_cli.make_scenes(
            output_dir,
            seed=seed,
            train_scenes=train_scenes,
            test_targets=test_targets,
            val_targets=val_targets,
            overwrite=overwrite,
            reporter=run.reporter,
        )
        run.finish(
            Outcome(
                value=str(folder),
                payload={"output_dir": str(folder), "seed": seed},
                body=(f"Data set: {folder}",),
                next_command=puma("analyze", "puma-mini", "--data", folder),
            )
        )
