"""Cutting a checkpoint of the zoo: by the plan alone, without any proof, and as a user does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from puma_cli.cli.app import run
from puma_cli.pruning.planning.plan import PrunePlan, make_plan
from puma_cli.pruning.writing.truncate import write_weights


def write_cut(parent: Path, folder: Path, kept: Sequence[int], **options: Any) -> PrunePlan:
    """Write `parent` cut to the layers `kept` into a new folder and return the plan of the cut."""
    plan = make_plan(parent, kept, **options)
    folder.mkdir(parents=True)
    write_weights(plan, folder)
    return plan


def cut_by_command(parent: Path, folder: Path, kept: Sequence[int], code: int = 0) -> None:
    """Cut as a user does, proof and all, and expect an exit code."""
    layers = ",".join(map(str, kept))
    command = ["prune", str(parent), "--layers", layers, "--verify", "full", "-o", str(folder)]
    assert run([*command, "--quiet"]) == code
