"""`puma prune`: write a checkpoint with fewer decoder layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import puma_cli
from puma_cli.cli import options
from puma_cli.cli.naming import puma
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session

if TYPE_CHECKING:
    from puma_cli.config.settings import PruneSettings
    from puma_cli.pruning.planning.plan import PrunePlan
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
    parameters: Annotated[
        str | None,
        typer.Option(metavar="N", help="Keep as many as fit so many parameters, such as 4B."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="Keep as many as fit so many bytes, such as 8GB."),
    ] = None,
    keep_last: Annotated[
        bool | None,
        typer.Option("--keep-last", help="Of K layers, keep the first K-1 and the very last."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--lm-head", metavar="WHAT", help="keep or drop the LM head.  [default: drop if untied]"
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Cast to float32, float16 or bfloat16; auto: copied as they are.  [default: auto]",
        ),
    ] = None,
    shard_size: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="Largest file, such as 5GB.  [default: divided as in MODEL]"
        ),
    ] = None,
    link: Annotated[
        bool | None,
        typer.Option("--link", help="Hard-link files that stay as they are, not copy them."),
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="full: opens whole and computes what its parent does; keys: opens whole; none; "
            "auto: full where memory allows.  [default: auto]",
        ),
    ] = None,
    bridge: Annotated[
        bool | None,
        typer.Option(
            "--bridge", help="Fit a linear head onto MODEL's own vectors, without training."
        ),
    ] = None,
    bridge_from: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Take the bridge that `puma analyze` fitted there: needs no data."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Data set in the M-BEIR layout, for --bridge."),
    ] = None,
    bridge_rows: Annotated[
        int | None,
        typer.Option(metavar="N", help="Inputs that the bridge is fitted on.  [default: 20000]"),
    ] = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    dry_run: Annotated[
        bool | None, typer.Option("--dry-run", help="Print the plan and write nothing.")
    ] = None,
    trust_remote_code: Annotated[
        bool | None,
        typer.Option("--trust-remote-code", help="Let the proof run code that MODEL brings."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where proof and bridge run.  [default: cpu]"),
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
    """Write MODEL with fewer decoder layers, as a stock checkpoint.

    Example: puma prune puma-mini --keep 4 --output-dir pruned
    """
    with session(ctx) as run:
        settings = run.settings(puma_cli.PruneSettings, complete=_dry_folder)
        result = puma_cli.prune(settings, run.reporter)
        run.finish(_outcome(result, settings))


def _dry_folder(given: Mapping[str, Any]) -> Mapping[str, Any]:
    # A dry run writes nothing, so nobody should have to say where.
    return {"output_dir": "pruned"} if given.get("dry_run") else {}


def _outcome(result: PruneResult, settings: PruneSettings) -> Outcome:
    from puma_cli.checkpoint.provenance import to_plain

    plan, parity, bridge = result.plan, result.parity, result.bridge
    payload = {
        "output_dir": str(settings.output_dir),
        "written": result.folder is not None,
        **plan.summary(),
        "verified": result.verified,
        "parity": to_plain(parity),
        "bridge": to_plain(bridge.fit) if bridge else None,
    }
    lines = [*plan.notes, *_casts(plan)]
    if parity is not None:
        lines.append(
            f"Checked: {parity.verdict}, {parity.reference}, in {parity.dtype}, on "
            f"{', '.join(parity.probes)}."
        )
        if parity.note:
            lines.append(f"Mind: {parity.note}.")
    elif result.verified == "keys":
        lines.append("Checked: every weight has its place. Not compared with the parent.")
    if bridge is not None:
        lines.append(
            f"Bridge: mean cosine {bridge.fit.cosine:.3f} to the parent's vectors on "
            f"{bridge.fit.held_out:,} held-out inputs."
        )
    if result.folder is None:
        lines.append("Dry run: nothing was written.")
        following = puma("prune", settings.model, *_choice(settings), "-o", settings.output_dir)
        return Outcome(
            value=str(settings.output_dir),
            payload=payload,
            body=(_title(plan, settings.model), _sizes(plan), *_changes(plan), *lines),
            next_command=following,
        )
    if settings.link:
        lines.append("Linked files are the parent's own: an edit in place to either changes both.")
    lines.append(f"Model: {result.folder}")
    return Outcome(
        value=str(result.folder),
        payload=payload,
        body=(_title(plan, settings.model), _sizes(plan), *lines),
        next_command=_following(result, settings),
    )


def _following(result: PruneResult, settings: PruneSettings) -> str:
    if result.bridge is not None:
        data = str(settings.data or "DATA")
        return puma("eval", result.folder, "--data", data, "--output-dir", "scores")
    if not result.embeds:
        return puma("info", result.folder)
    to_student = ("--teacher", settings.model, "--data", "DATA", "--output-dir", "student")
    return puma("distill", result.folder, *to_student)


def _choice(settings: PruneSettings) -> list[object]:
    """Return the options that were given, as they would be typed."""
    words: list[object] = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in ("model", "output_dir", "dry_run") or value == field.default:
            continue
        flag = "--lm-head" if field.name == "head" else f"--{field.name.replace('_', '-')}"
        words += [flag] if value is True else [flag, value]
    return words


def _title(plan: PrunePlan, model: str) -> str:
    from puma_cli.checkpoint.inspection import say_layers

    kept = say_layers(list(plan.kept))
    return f"{model} ({plan.model_type}): keeps layers {kept} of {plan.depth}"


def _sizes(plan: PrunePlan) -> Table:
    from puma_cli.report.numbers import count, size_on_disk

    parts = list(plan.parameters_before)
    before, after = plan.parameters
    rows = [("depth", str(plan.depth), str(len(plan.kept)))]
    rows += [
        (part, count(plan.parameters_before[part]), count(plan.parameters_after.get(part, 0)))
        for part in parts
    ]
    rows.append(("parameters", count(before), count(after)))
    rows.append(("weights", size_on_disk(plan.bytes_before), size_on_disk(plan.bytes_after)))
    return Table(("", "before", "after"), rows, strong=(len(parts) + 1,))


def _casts(plan: PrunePlan) -> list[str]:
    return [
        f"Cast: {number:,} tensors from {before} to {after}."
        for (before, after), number in plan.casts.items()
    ]


def _changes(plan: PrunePlan) -> list[Table]:
    """Return what a dry run shows besides: fields that change, and what goes and why."""
    from puma_cli.report.numbers import count, size_on_disk

    tables = []
    if plan.changes:
        changes = [(change.key, *change.words) for change in plan.changes]
        tables.append(Table(("config.json", "before", "after"), changes))
    if plan.dropped:
        losses = [
            (loss.reason, f"{loss.tensors:,}", count(loss.parameters), size_on_disk(loss.size))
            for loss in plan.losses
        ]
        tables.append(Table(("left out", "tensors", "parameters", "size"), losses))
    return tables
