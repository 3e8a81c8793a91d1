"""`puma bench`: models side by side, in speed, memory, size and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import puma_cli
from puma_cli.cli import encoding_options, options
from puma_cli.cli.naming import puma
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session

if TYPE_CHECKING:
    from puma_cli.benching.results import Bench
    from puma_cli.config.settings import BenchSettings


def bench(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Folders, `puma-mini` or hub ids, the reference first.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Data set in the M-BEIR layout to draw inputs from; without it a mixture of "
            "texts and pictures is made up.",
        ),
    ] = None,
    split: Annotated[str | None, options.split("test")] = None,
    tasks: options.Tasks = None,
    image_side: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Side of the made-up mixture's pictures.  [default: 448]"
        ),
    ] = None,
    inputs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Queries, and candidates, in batches.  [default: 64]"),
    ] = None,
    alone: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of these, embedded one at a time too.  [default: 8]"),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Rounds in which the models take turns.  [default: 9]"),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(metavar="N", help="Rounds before these that do not count.  [default: 2]"),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            "--scores",
            metavar="DIR",
            help="Folder of `puma eval` for each model, in their order: what each keeps, beside "
            "its cost. Repeat it.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the scores: hit@K, mrr@K, hit@k, ndcg@10.  [default: hit@1]"
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the scores: local or union.  [default: local]"),
    ] = None,
    price_per_hour: Annotated[
        float | None,
        typer.Option(metavar="PRICE", help="What an hour of the machine costs.  [default: 1]"),
    ] = None,
    memory: Annotated[
        bool | None,
        typer.Option(
            "--memory/--no-memory",
            help="Measure memory, on a CPU in a process for each model.  [default: memory]",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also a figure: .png, .svg or .pdf."),
    ] = None,
    batch_size: options.BatchSize = None,
    batch_tokens: encoding_options.BatchTokens = None,
    attention: encoding_options.Attention = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure models side by side: speed, memory, size, cost.

    All are open at once and take turns on the same inputs, queries and candidates apart, one at a
    time and in batches.

    Example: puma bench puma-mini student --plot bench.png
    """
    with session(ctx) as run:
        settings = run.settings(puma_cli.BenchSettings)
        found = puma_cli.bench(settings, run.reporter)
        run.finish(_outcome(found, settings))


def _outcome(found: Bench, settings: BenchSettings) -> Outcome:
    from puma_cli.report.bench_table import bench_tables, explain_table

    title = f"{found.device}, {found.dtype}: medians of {found.rounds} rounds"
    body: list[Table | str] = [
        Table(headings, rows, title=title) for headings, rows in bench_tables(found)
    ]
    body += explain_table(found)
    if found.plot is not None:
        body.append(f"Figure: {found.plot}")
    last = found.models[-1]
    faster = last.query.alone.faster.median
    unscored = len(found.models) > 1 and not settings.scores
    data = settings.data or "DATA"
    return Outcome(
        value=f"{faster:.4f}",
        payload=found.to_json(),
        body=body,
        next_command=puma("eval", last.model, "--data", data) if unscored else "",
    )
