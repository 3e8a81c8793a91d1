"""Cutting a checkpoint of the zoo without any proof, for tests that do the proving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from puma_cli.pruning.plan import PrunePlan, make_plan
from puma_cli.pruning.truncate import write_weights


def write_cut(parent: Path, folder: Path, kept: Sequence[int], **options: Any) -> PrunePlan:
    """Write `parent` cut to the layers `kept` into a new folder and return the plan of the cut."""
    plan = make_plan(parent, kept, **options)
    folder.mkdir(parents=True)
    write_weights(plan, folder)
    return plan
