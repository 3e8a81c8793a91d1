"""`puma embed`: embed texts, images and tables into an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import puma_cli
from puma_cli.cli import encoding_options, options
from puma_cli.cli.naming import puma, short_name
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import Session, session
from puma_cli.errors import ConfigError

if TYPE_CHECKING:
    from puma_cli.embedding.whole_index import EmbedResult

# What somebody who thinks of the vectors may give --dtype, which is the model's.
_VECTORS_ALONE = "int8"


def embed(
    ctx: typer.Context,
    model: options.Model = None,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Files of text lines, tables (.jsonl, .csv, .parquet), images, folders of "
            "either, or - for lines of standard input.",
            show_default=False,
        ),
    ] = None,
    output_dir: Annotated[Path | None, options.output_dir("index-MODEL")] = None,
    side: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="document, or query.  [default: document]"),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="npy, safetensors, parquet, or lancedb.  [default: npy]",
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(metavar="N", help="Keep the first N components, renormalised."),
    ] = None,
    store_dtype: Annotated[
        str | None,
        typer.Option(
            "--store-dtype",
            metavar="NAME",
            help="Format of the vectors: float32, float16, or int8.  [default: float32]",
        ),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What is asked of the inputs.  [default: of queries, the model's own]",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="What a table's image paths start from.  [default: its folder]",
        ),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="A table's ids.  [default: id, did, ...]")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its texts.  [default: text, txt, ...]")
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its paths of images.  [default: image, img_path, ...]"),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A column to carry along; may be repeated.  [default: all others]"
        ),
    ] = None,
    skip_broken: Annotated[
        bool | None,
        typer.Option("--skip-broken", help="Leave out, and count, what cannot be read."),
    ] = None,
    shard_rows: Annotated[
        int | None,
        typer.Option(metavar="N", help="Inputs of a shard, lost at most.  [default: 4096]"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="N", help="Most inputs at once.  [default: 1024]"),
    ] = None,
    batch_tokens: encoding_options.BatchTokens = None,
    image_workers: encoding_options.ImageWorkers = None,
    attention: encoding_options.Attention = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    num_processes: Annotated[
        int | None,
        typer.Option(
            "--num-processes",
            metavar="N",
            help="Share the shards out to N processes, a GPU each.  [default: 1]",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="local, or ray: the machines of a Ray cluster.  [default: local]",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="ADDRESS",
            help="auto, or HOST:PORT.  [default: RAY_ADDRESS, or a cluster of this machine]",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Models at once.  [default: one a GPU, or as many as there are cores for]",
        ),
    ] = None,
    cpus_per_worker: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Cores of each.  [default: 4, or as many as there are]",
        ),
    ] = None,
    overwrite: options.Overwrite = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Embed texts, images and tables into an index for `puma search`.

    The same command goes on where a run was stopped, and embeds what was appended since.

    Example: puma embed puma-mini photos --output-dir index
    """
    with session(ctx, shared=True) as run:
        if dtype == _VECTORS_ALONE:
            raise ConfigError(
                "dtype = int8 is not possible: it is the format that the model computes in.",
                hint="The vectors' format is --store-dtype int8.",
            )
        run.params["format"] = run.params.pop("format_")
        # An empty list is what typer makes of an argument that is not given.
        run.params["inputs"] = inputs or None
        settings = run.settings(puma_cli.EmbedSettings, complete=_default_folder)
        if num_processes is not None and num_processes > 1:
            if settings.engine != "local":
                raise ConfigError(
                    f"--num-processes {num_processes} is not possible with --engine ray.",
                    hint="How many models a cluster runs, --workers says.",
                )
            raise typer.Exit(run.share(settings, num_processes))
        run.on_interrupt("Whole shards are kept: the same command goes on from there.")
        result = puma_cli.embed(settings, run.reporter)
        run.finish(_outcome(run, result))


def _default_folder(given: Mapping[str, Any]) -> Mapping[str, Any]:
    # Of a model that is missing, the error names the model alone: the folder has a default.
    return {"output_dir": f"index-{short_name(given.get('model', ''))}"}


def _outcome(run: Session, result: EmbedResult) -> Outcome:
    from puma_cli.report.numbers import size_on_disk

    about = result.description
    cells = (
        f"{result.rows:,}",
        f"{result.embedded:,}",
        f"{result.skipped:,}",
        str(about.dimensions),
        about.store_dtype,
        f"{result.shards:,}",
        size_on_disk(result.bytes),
    )
    columns = ("vectors", "embedded now", "left out", "numbers each", "format", "shards", "size")
    remarks = []
    if result.cut:
        what = (
            "text was longer than the model takes, and was"
            if result.cut == 1
            else ("texts were longer than the model takes, and were")
        )
        remarks.append(f"{result.cut:,} {what} cut.")
    if result.skipped:
        remarks.append(f"{result.skipped:,} of the inputs could not be read, and were left out.")
    return Outcome(
        value=str(result.folder),
        payload={
            "index": str(result.folder),
            "model": about.model,
            "side": about.side,
            "format": about.format,
            "store_dtype": about.store_dtype,
            "dimensions": about.dimensions,
            "rows": result.rows,
            "embedded": result.embedded,
            "skipped": result.skipped,
            "cut": result.cut,
            "shards": result.shards,
            "bytes": result.bytes,
        },
        body=(
            Table(columns, [cells], title=f"{about.side.capitalize()}s by {about.model}"),
            *remarks,
            f"Index: {result.folder}",
        ),
        next_command=puma("search", about.model, "--index", result.folder, "YOUR QUERY"),
    )
