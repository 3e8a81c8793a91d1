"""`puma prune`: write a checkpoint with fewer decoder layers."""

from __future__ import annotations

from collections.abc import Mapping
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
    from puma_cli.pruning.plan import PrunePlan
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
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="full: opens whole and computes what its parent does; keys: opens whole; none.  "
            "[default: full where memory allows]",
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

    plan, parity = result.plan, result.parity
    payload = {
        "output_dir": str(settings.output_dir),
        "written": result.folder is not None,
        **plan.summary(),
        "parity": to_plain(parity),
    }
    lines: list[str] = []
    if parity is not None:
        lines.append(
            f"Checked: equal to {parity.reference} of the parent on {parity.probes} inputs, "
            f"largest difference {parity.difference:.1e}."
        )
    if result.folder is None:
        lines.append("Dry run: nothing was written.")
        following = puma("prune", settings.model, *_choice(settings), "-o", settings.output_dir)
    else:
        lines.append(f"Model: {result.folder}")
        to_student = ("--teacher", settings.model, "--data", "DATA", "--output-dir", "student")
        following = puma("distill", result.folder, *to_student)
    return Outcome(
        value=str(result.folder or settings.output_dir),
        payload=payload,
        body=(_table(plan, settings.model), *lines),
        next_command=following,
    )


def _choice(settings: PruneSettings) -> list[object]:
    for name in ("keep", "layers", "profile"):
        value = getattr(settings, name)
        if value is not None:
            return [f"--{name}", value]
    return []


def _table(plan: PrunePlan, model: str) -> Table:
    from puma_cli.checkpoint.inspection import say_layers
    from puma_cli.report.numbers import count, size_on_disk

    parts = list(plan.parameters_before)
    before, after = plan.parameters
    rows = [("decoder layers", str(plan.depth), str(len(plan.kept)))]
    rows += [
        (part, count(plan.parameters_before[part]), count(plan.parameters_after.get(part, 0)))
        for part in parts
    ]
    rows.append(("parameters", count(before), count(after)))
    rows.append(("weights", size_on_disk(plan.bytes_before), size_on_disk(plan.bytes_after)))
    title = f"{model}: keeps layers {say_layers(list(plan.kept))} of {plan.depth}"
    return Table(("", "before", "after"), rows, title=title, strong=(len(parts) + 1,))
