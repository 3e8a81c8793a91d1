"""The scores on MMEB as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from puma_cli.cli.naming import percent
from puma_cli.cli.output import Table

if TYPE_CHECKING:
    from puma_cli.evaluation.results import Scores


def mmeb_tables(scores: Scores, means: dict[str, Any], title: str) -> list[Table | str]:
    """Return a table of data sets, one of the groups, and what was not run.

    Args:
        means: what `mmeb.json` holds.
    """
    from puma_cli.data.mmeb.names import place_of
    from puma_cli.evaluation.mmeb.groups import PRECISION

    rows = []
    for row in scores.rows:
        meta, half = place_of(row.task)
        score = percent(row.score(PRECISION))
        rows.append([row.task, meta, half, str(row.queries), score, str(row.tied)])
    columns = ("data set", "meta-task", "", "rows", "Precision@1", "rows that tie")
    groups = [
        [
            name,
            "–" if mean["mean"] is None else percent(mean["mean"]),
            f"{mean['sets']} of {mean['of']}" + ("" if mean["complete"] else ": INCOMPLETE"),
        ]
        for name, mean in means["mmeb"].items()
    ]
    parts: list[Table | str] = [Table(columns, rows, title=title)]
    parts.append(Table(("mean over", "Precision@1", "data sets"), groups, strong=(0,)))
    missing = means["mmeb"]["all"]["missing"]
    if missing and len(missing) < means["mmeb"]["all"]["of"]:
        parts.append(f"Not scored: {', '.join(missing)}.")
    for kind, names in means["not_run"].items():
        parts.append(f"MMEB-V2, {kind}: {len(names)} data sets, not run.")
    return parts
