"""MMEB's means as a file of a score folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from puma_cli.checkpoint.output_folder import write_json
from puma_cli.evaluation.mmeb.groups import NOT_RUN, PRECISION, group_means
from puma_cli.evaluation.results import Scores

MEANS = "mmeb.json"


def write_means(folder: Path, scores: Scores) -> dict[str, Any]:
    """Write `mmeb.json`, and return what it holds."""
    found = means_of(scores)
    write_json(folder / MEANS, found)
    return found


def means_of(scores: Scores) -> dict[str, Any]:
    """Return MMEB's means as plain JSON, and what of MMEB-V2 was not run."""
    precision = {row.task: row.score(PRECISION) for row in scores.rows}
    return {
        "mmeb": {mean.name: mean.to_json() for mean in group_means(precision)},
        "partial": scores.partial,
        "not_run": {kind: list(names) for kind, names in NOT_RUN.items()},
    }
