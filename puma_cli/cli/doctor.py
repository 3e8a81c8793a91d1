"""`puma doctor`: what is installed, what is missing, and what would go wrong."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import typer

import puma_cli
from puma_cli.cli import options
from puma_cli.cli.messages import FAILED
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session

if TYPE_CHECKING:
    from puma_cli.diagnosis.diagnose import Diagnosis
    from puma_cli.diagnosis.findings import Finding


def doctor(
    ctx: typer.Context,
    device: options.Device = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Check versions, devices and parts, and run a small model.

    Ends with exit code 1 if anything is wrong.

    Example: puma doctor
    """
    with session(ctx) as run:
        found = puma_cli.diagnose(device or "auto", run.reporter)
        run.finish(_outcome(found))
        if found.problems:
            raise typer.Exit(FAILED)


def _outcome(found: Diagnosis) -> Outcome:
    from puma_cli.checkpoint.provenance import to_plain

    tables = [
        Table((area, "", ""), [_row(finding) for finding in findings])
        for area, findings in groupby(found.findings, key=lambda finding: finding.area)
    ]
    wrong = [
        f"{number}. {finding.problem}\n   {finding.hint}"
        for number, finding in enumerate(found.problems, start=1)
    ]
    summary = "No problems found." if not wrong else f"Problems: {len(wrong)}"
    return Outcome(
        value=str(len(wrong)),
        payload={"findings": to_plain(found.findings), "problems": len(wrong)},
        body=(*tables, summary, *wrong),
        next_command="" if wrong else "puma demo",
    )


def _row(finding: Finding) -> tuple[str, str, str]:
    note = {"good": "", "absent": finding.hint, "bad": "! see below"}[finding.state]
    return finding.name, finding.value, note
