"""`puma compare`: what each model keeps of the first one's score; or profiles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import puma_cli
from puma_cli.checkpoint.kinds import PROFILE, tell_kind
from puma_cli.checkpoint.source import PUMA_MINI
from puma_cli.cli import options
from puma_cli.cli.naming import percent, puma
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session

if TYPE_CHECKING:
    from puma_cli.evaluation.comparison import Cell, Comparison, ComparisonRow
    from puma_cli.evaluation.published import Published
    from puma_cli.profiling.comparison import ProfileComparison


def compare(
    ctx: typer.Context,
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER",
            help="Folders of `puma eval`, the reference first, or of `puma analyze`.",
            show_default=False,
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="hit@K, mrr@K, hit@k or ndcg@10.  [default: hit@1; with --published that of the "
            "benchmark]",
        ),
    ] = None,
    pool: Annotated[str, typer.Option(metavar="NAME", help="local or union.")] = "local",
    resamples: Annotated[
        int, typer.Option(metavar="N", help="Bootstrap draws behind the intervals.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of these draws.")] = 0,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Compare runs under --limit too.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Published numbers beside them, with their source.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Also a page, with queries gained and lost as pictures."
        ),
    ] = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show what models keep of the first one's score, or profiles.

    Intervals are of 95%, from a paired bootstrap over the queries. Folders of `puma analyze` are
    put side by side; the options are for scores.

    Example: puma compare scores-teacher scores-cut scores-student
    """
    with session(ctx) as run:
        if all(tell_kind(folder) == PROFILE for folder in folders):
            run.finish(_profile_outcome(puma_cli.compare_profiles(folders)))
            return
        comparison = puma_cli.compare(
            folders,
            metric=metric or _usual_metric(folders, published),
            pool=pool,
            resamples=resamples,
            seed=seed,
            allow_partial=allow_partial,
            published=published,
        )
        if html is not None:
            from puma_cli.report.comparison_page import write_comparison_page

            write_comparison_page(html, comparison, seed)
        run.finish(_outcome(comparison, html))


def _usual_metric(folders: Sequence[Path], published: bool) -> str:
    if not published:
        return "hit@1"
    from puma_cli.evaluation.published import published_metric
    from puma_cli.evaluation.score_folder import read_scores

    return published_metric(read_scores(folders[0]).protocol)


def _outcome(comparison: Comparison, html: Path | None = None) -> Outcome:
    retention = comparison.mean.cells[-1].retention
    body: list[Table | str] = [_table(comparison), *comparison.notes]
    if comparison.published is not None:
        beside = comparison.published
        body += [_published_table(comparison, beside), *beside.notes]
    if html is not None:
        body.append(f"Page: {html}")
    return Outcome(
        value="" if retention is None else f"{retention:.4f}",
        payload={**comparison.to_json(), "html": None if html is None else str(html)},
        body=body,
        next_command=_following(comparison),
    )


def _following(comparison: Comparison) -> str:
    models = list(comparison.models)
    if len(models) < 2 or not all(m == PUMA_MINI or Path(m).is_dir() for m in models):
        return puma("info", comparison.folders[-1])
    scores = [word for folder in comparison.folders for word in ("--scores", folder)]
    return puma("bench", *models, *scores)


def _profile_outcome(comparison: ProfileComparison) -> Outcome:
    from puma_cli.checkpoint.provenance import to_plain
    from puma_cli.report.side_by_side import cut_rows, kept_headers, kept_rows

    names, last = comparison.names, comparison.profiles[-1]
    return Outcome(
        value=" ".join(str(profile.recommended) for profile in comparison.profiles),
        payload=to_plain(comparison),
        body=(
            Table(("", *names), cut_rows(comparison), title="The recommended cuts"),
            Table(
                kept_headers(names),
                kept_rows(comparison),
                title="Kept of the full hit@1 by the first layers (95% interval)",
            ),
            *comparison.notes,
        ),
        next_command=puma("prune", last.model, "--profile", last.folder),
    )


def _table(comparison: Comparison) -> Table:
    columns = ["task", "queries", comparison.folders[0].name]
    for folder in comparison.folders[1:]:
        columns += [folder.name, "kept (95% interval)", "p"]
    rows = [_row(row) for row in (*comparison.rows, comparison.mean)]
    return Table(
        columns,
        rows,
        title=f"{comparison.metric} in percent, {comparison.pool} pool, {comparison.split}: "
        f"kept of {comparison.models[0]}'s score",
        strong=(len(rows) - 1,),
    )


def _row(row: ComparisonRow) -> list[str]:
    reference, *others = row.cells
    cells = [row.task, str(row.queries), percent(reference.score)]
    for cell in others:
        cells += [percent(cell.score), _kept(cell), _p_value(cell)]
    return cells


def _p_value(cell: Cell) -> str:
    value = cell.p_value
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _published_table(comparison: Comparison, beside: Published) -> Table:
    ours = [folder.name for folder in comparison.folders]
    theirs = [f"{model.model} ({model.source})" for model in beside.models]
    by_task = {row.task: [percent(cell.score) for cell in row.cells] for row in comparison.rows}
    rows = [
        [task, *by_task[task], *(percent(model.values[task]) for model in beside.models)]
        for task in beside.tasks
    ]
    if beside.whole:
        mean = [percent(cell.score) for cell in comparison.mean.cells]
        rows.append(["mean", *mean, *(percent(model.mean) for model in beside.models)])
    pools = ", ".join(dict.fromkeys(model.pool for model in beside.models))
    return Table(
        ["task", *ours, *theirs],
        rows,
        title=f"Beside published numbers: {beside.metric} in percent, pool: {pools}",
        strong=(len(rows) - 1,) if beside.whole else (),
    )


def _kept(cell: Cell) -> str:
    if cell.retention is None:
        return "-"
    kept = f"{percent(cell.retention)}%"
    if cell.retention_interval is None:
        return kept
    low, high = cell.retention_interval
    return f"{kept} [{percent(low)}, {percent(high)}]"
