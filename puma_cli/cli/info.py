"""`puma info`: what a folder is, where it came from, and what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import puma_cli
from puma_cli.cli import options
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session

if TYPE_CHECKING:
    from puma_cli.checkpoint.inspection import FolderReport


def info(
    ctx: typer.Context,
    folder: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="Any folder, or `puma-mini`.", show_default=False),
    ],
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Say what FOLDER is, where it is from and what comes next.

    Example: puma info puma-mini
    """
    with session(ctx) as run:
        run.finish(_outcome(puma_cli.inspect_folder(folder), folder))


def _outcome(report: FolderReport, folder: str) -> Outcome:
    from puma_cli.checkpoint.provenance import to_plain

    parents = [
        (f"from {parent.role}", f"{parent.name} ({parent.state})") for parent in report.parents
    ]
    rows = [(str(name), str(value)) for name, value in report.facts] + parents
    return Outcome(
        value=report.kind,
        payload={
            "folder": folder,
            "kind": report.kind,
            "facts": {name: to_plain(value) for name, value in report.facts},
            "parents": to_plain(report.parents),
        },
        body=(Table(columns=(folder, report.kind), rows=rows),),
        next_command=report.next_command,
    )
