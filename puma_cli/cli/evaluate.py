"""`puma eval`: score a model on the tasks of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import puma_cli
from puma_cli.cli import encoding_options, options
from puma_cli.cli.mmeb_table import mmeb_tables
from puma_cli.cli.naming import percent, puma, short_name
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import Session, session
from puma_cli.errors import ConfigError

if TYPE_CHECKING:
    from puma_cli.evaluation.results import Scores

_HITS = ("hit@1", "hit@5", "hit@10")


def evaluate(
    ctx: typer.Context,
    model: options.Model = None,
    data: options.Data = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="FILE", help="Table of pairs, or a folder of them."),
    ] = None,
    mmeb: Annotated[
        str | None,
        typer.Option(
            "--mmeb", metavar="DIR|ID", help="MMEB: a folder, or TIGER-Lab/MMEB-eval on the hub."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="PATH", help="Images of --mmeb or --pairs, if elsewhere."),
    ] = None,
    output_dir: Annotated[Path | None, options.output_dir("scores-MODEL-SPLIT")] = None,
    split: Annotated[str | None, options.split("test")] = None,
    tasks: options.Tasks = None,
    list_tasks: Annotated[
        bool, typer.Option("--list-tasks", help="Print the data set's tasks, and stop.")
    ] = False,
    pools: Annotated[
        list[str] | None,
        typer.Option(
            "--pools",
            metavar="NAME",
            help="local (a task's own candidates) or union (everybody's); may be repeated.  "
            "[default: both]",
        ),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Each query's prompt: first, or seeded draw.  [default: first]"
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--k", metavar="K", help="The data set's own cutoff.  [default: 5]"),
    ] = None,
    bad_rows: Annotated[
        str | None,
        typer.Option("--bad-rows", metavar="NAME", help="error, or skip.  [default: error]"),
    ] = None,
    bad_images: Annotated[
        str | None,
        typer.Option("--bad-images", metavar="NAME", help="error, or skip.  [default: error]"),
    ] = None,
    query_model: Annotated[
        str | None,
        typer.Option("--query-model", metavar="MODEL", help="Embeds the queries, if not MODEL."),
    ] = None,
    candidate_model: Annotated[
        str | None,
        typer.Option("--candidate-model", metavar="MODEL", help="MODEL, beside --query-model."),
    ] = None,
    any_space: Annotated[
        bool | None,
        typer.Option("--any-space", help="Score models that share no space, as far as is known."),
    ] = None,
    hubness_penalty: Annotated[
        float | None,
        typer.Option(
            "--hubness-penalty",
            metavar="P",
            help="Take this share of a candidate's mean cosine away: transductive.  [default: 0]",
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="NAME", help="torch, or faiss.  [default: torch]"),
    ] = None,
    limit: options.Limit = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="N", help="Most inputs at once.  [default: 1024]"),
    ] = None,
    batch_tokens: encoding_options.BatchTokens = None,
    image_workers: encoding_options.ImageWorkers = None,
    attention: encoding_options.Attention = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    store_dtype: encoding_options.StoreDtype = None,
    cache: encoding_options.Cache = None,
    cache_dir: encoding_options.CacheDir = None,
    rehash: encoding_options.Rehash = None,
    num_processes: encoding_options.NumProcesses = None,
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
    """Score MODEL by M-BEIR's or MMEB's rules, or on your own pairs.

    Example: puma eval puma-mini --data scenes
    """
    with session(ctx, shared=True) as run:
        _choose_data(run)
        _choose_models(run)
        if list_tasks:
            _list_tasks(run)
            return
        settings = run.settings(puma_cli.EvaluateSettings, complete=_default_folder)
        if num_processes is not None and num_processes > 1:
            raise typer.Exit(run.share(settings, num_processes))
        if settings.cache:
            run.on_interrupt("What was encoded is kept: the same command goes on from there.")
        scores = puma_cli.evaluate(settings, run.reporter)
        # Processes other than the first have done their part.
        if scores.rows:
            run.finish(_outcome(scores, settings.output_dir))


def _choose_data(run: Session) -> None:
    """Turn --pairs and --mmeb into the settings that they stand for."""
    layouts = {"data": None, "pairs": "pairs", "mmeb": "mmeb"}
    given = [name for name in layouts if run.params.get(name) is not None]
    if len(given) > 1:
        raise ConfigError(
            f"--{given[0]} and --{given[1]} are both given.", hint="Score one data set at a time."
        )
    for name in given:
        run.params["data"] = Path(run.params[name])
        if layouts[name]:
            run.params["layout"] = layouts[name]
    # `pairs` is also the name of a group of settings.
    run.params.pop("pairs", None)


def _choose_models(run: Session) -> None:
    """Take --candidate-model for the model that it is another word for."""
    candidates = run.params.pop("candidate_model", None)
    if candidates is None:
        return
    if run.params.get("model") not in (None, candidates):
        raise ConfigError(
            f"{run.params['model']} and --candidate-model {candidates} are both given.",
            hint="One of the two is enough: --candidate-model is another word for MODEL.",
        )
    run.params["model"] = candidates


def _default_folder(given: Mapping[str, Any]) -> Mapping[str, Any]:
    # Of a model that is missing, the error names the model alone: the folder has a default.
    name = short_name(given.get("model", ""))
    if given.get("query_model") is not None:
        name = f"{short_name(given['query_model'])}-on-{name}"
    return {"output_dir": f"scores-{name}-{given.get('split', 'test')}"}


def _list_tasks(run: Session) -> None:
    # The model and the output folder play no part here, and need not be given.
    unused = {"model": "-", "output_dir": "-"}
    settings = run.settings(puma_cli.EvaluateSettings, complete=lambda given: unused)
    from puma_cli.evaluation.opening import list_tasks

    found = list_tasks(settings, run.reporter)
    rows = [(task.name, str(task.queries), str(task.candidates)) for task in found]
    run.finish(
        Outcome(
            value="\n".join(task.name for task in found),
            payload={"tasks": [task._asdict() for task in found]},
            body=(Table(("task", "queries", "candidates in its pool"), rows),),
        )
    )


def _outcome(scores: Scores, folder: Path) -> Outcome:
    limited = f", {scores.left_out}: PARTIAL" if scores.partial else ""
    title = f"{scores.label} on {scores.data}, {scores.split}, in percent{limited}"
    if scores.hubness_penalty:
        title += ", TRANSDUCTIVE"
    means: dict[str, Any] = {}
    tables: list[Table | str] = [_table(scores, title)]
    if scores.protocol == "mmeb":
        from puma_cli.evaluation.mmeb.means_file import means_of

        means = means_of(scores)
        tables = mmeb_tables(scores, means, title)
    return Outcome(
        value=str(folder),
        payload={
            "output_dir": str(folder),
            "model": scores.model,
            "query_model": scores.query_model,
            "hubness_penalty": scores.hubness_penalty,
            "data": scores.data,
            "split": scores.split,
            "protocol": scores.protocol,
            "partial": scores.partial,
            "skipped": dict(scores.skipped),
            "mean": scores.means,
            "rows": [
                {
                    "task": row.task,
                    "pool": row.pool,
                    "queries": row.queries,
                    "candidates": row.candidates,
                    **row.metrics,
                }
                for row in scores.rows
            ],
            **means,
        },
        body=(
            *tables,
            *(remark for remark in scores.remarks if not remark.startswith("Partial")),
            *_warnings(scores),
            f"Scores: {folder}, report: {folder / 'report.html'}",
        ),
        next_command=_following(scores, folder),
    )


def _following(scores: Scores, folder: Path) -> str:
    from puma_cli.checkpoint.provenance import read_provenance

    # What was made from another model is compared with that one, which comes first.
    made = read_provenance(Path(scores.model)) if Path(scores.model).is_dir() else None
    derived = made is not None and any(p.role in ("teacher", "model") for p in made.parents)
    pair = ("REFERENCE-SCORES", folder) if derived else (folder, "OTHER-SCORES")
    return puma("compare", *pair, *(["--allow-partial"] if scores.partial else []))


def _table(scores: Scores, title: str) -> Table:
    several = len(scores.pools) > 1
    columns = ["task", "queries"]
    for pool in scores.pools:
        columns += [f"{pool} {hit}" if several else hit for hit in _HITS]
    rows = []
    for first in scores.of_pool(scores.pools[0]):
        cells = [first.task, str(first.queries)]
        for pool in scores.pools:
            cells += [percent(scores.row(first.task, pool).score(hit)) for hit in _HITS]
        rows.append(cells)
    mean = ["mean", str(sum(row.queries for row in scores.of_pool(scores.pools[0])))]
    for pool in scores.pools:
        mean += [percent(scores.mean(hit, pool=pool)) for hit in _HITS]
    return Table(columns, [*rows, mean], title=title, strong=(len(rows),))


def _warnings(scores: Scores) -> list[str]:
    lines = []
    for row in scores.rows:
        if row.missing:
            lines.append(
                f"{row.task}, {row.pool} pool: {row.missing} positives are not in the pool; "
                f"{row.unanswerable} queries score 0 for it."
            )
    return lines
