"""A model and its students, scored: one table of means with intervals, from score folders.

    python benchmarks/eval/family.py "full model=scores/teacher" "4 of 12=scores/student"

The first is the reference. Queries are drawn within each task, the same for all models.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from puma_cli import compare
from puma_cli.evaluation.comparison import Cell, Comparison
from puma_cli.evaluation.results import LOCAL, UNION

METRICS = ("hit@1", "hit@5")


def main() -> None:
    """Print the table of each pool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--pools", nargs="*", default=[LOCAL, UNION])
    asked = parser.parse_args()
    names, folders = zip(*(each.rsplit("=", 1) for each in asked.scores), strict=True)
    for pool in asked.pools:
        found = [compare(folders, metric=metric, pool=pool) for metric in METRICS]
        print("\n".join(table(names, found)), end="\n\n")


def table(names: Sequence[str], found: Sequence[Comparison]) -> list[str]:
    """Return the table of one pool, a row for each model, metrics beside one another."""
    metrics = [comparison.metric for comparison in found]
    about = found[0]
    return [
        f"{about.pool.capitalize()} pools, {about.split}, {about.mean.queries:,} queries, mean "
        f"over {len(about.rows)} tasks, in percent:",
        "",
        f"| model | {' | '.join(f'{metric} | kept | p' for metric in metrics)} |",
        "|---|" + "---|" * (3 * len(metrics)),
        *(
            f"| {name} | {' | '.join(cell(c.mean.cells[place]) for c in found)} |"
            for place, name in enumerate(names)
        ),
    ]


def cell(of: Cell) -> str:
    """Return score, share kept and p-value, with their intervals."""
    if of.p_value is None:
        return f"{_percent(of.score, *of.score_interval)} | | "
    kept = "–" if of.retention is None else _percent(of.retention, *(of.retention_interval or ()))
    p = "< .001" if of.p_value < 0.001 else f"{of.p_value:.3f}".lstrip("0")
    return f"{_percent(of.score, *of.score_interval)} | {kept} | {p}"


def _percent(value: float, *bounds: float) -> str:
    shown = f"{100 * value:.1f}"
    return f"{shown} ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})" if bounds else shown


if __name__ == "__main__":
    main()
