"""`puma export`: write a model for other loaders, and prove that its vectors stay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import puma_cli
from puma_cli.cli import options
from puma_cli.cli.naming import puma
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session

if TYPE_CHECKING:
    from puma_cli.exporting.export import ExportResult


def export(
    ctx: typer.Context,
    model: options.Model = None,
    output_dir: Annotated[Path | None, options.output_dir()] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="transformers, sentence-transformers, vllm, or all.  "
            "[default: sentence-transformers]",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="float32, float16 or bfloat16.  [default: auto, as they are]",
        ),
    ] = None,
    shard_size: Annotated[
        str | None,
        typer.Option(
            "--shard-size", "--max-shard-size", metavar="BYTES", help="Most of a file, such as 5GB."
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(metavar="N", help="Give the first N components of the embeddings."),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            metavar="NAME=TEXT",
            help="An instruction that loaders know by name; may be repeated.",
        ),
    ] = None,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify", help="Open the result elsewhere and compare.  [default: verify]"
        ),
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Upload the result as this model.")
    ] = None,
    private: Annotated[
        bool | None, typer.Option("--private", help="Make a new model on the hub private.")
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
    """Write MODEL for other loaders, and compare their vectors.

    Example: puma export student --output-dir exported
    """
    with session(ctx) as run:
        run.params["format"] = run.params.pop("format_")
        settings = run.settings(puma_cli.ExportSettings)
        run.finish(_outcome(puma_cli.export(settings, run.reporter)))


def _outcome(result: ExportResult) -> Outcome:
    from puma_cli.checkpoint.provenance import to_plain

    rows = [
        (
            name,
            str(folder),
            "; ".join(
                f"{check.loader}: not checked"
                if check.unchecked
                else f"{check.loader}: {check.worst:.0e}"
                for check in result.parity.get(name, ())
            )
            or "not compared",
        )
        for name, folder in result.folders.items()
    ]
    # In a cell, reasons would be folded to a word a line.
    left_out = dict.fromkeys(
        f"Not checked with {check.loader}: {check.unchecked}."
        for checks in result.parity.values()
        for check in checks
        if check.unchecked
    )
    table = Table(("format", "folder", "largest difference, of a vector's length"), rows)
    pushed = [f"On the hub: {result.pushed}"] if result.pushed else []
    return Outcome(
        value=str(result.folder),
        payload={
            "folder": str(result.folder),
            "dimension": result.dimension,
            "formats": {name: str(folder) for name, folder in result.folders.items()},
            "parity": to_plain(result.parity),
            "pushed": result.pushed or None,
        },
        body=(
            table,
            *left_out,
            f"Embeddings have {result.dimension} dimensions. Load them as the README.md of the "
            "folder says.",
            *pushed,
        ),
        next_command=puma("info", next(iter(result.folders.values()), result.folder)),
    )
