"""Question e: which quantity of an analysis ranks trained cuts as their training did."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablations.records import HERE, append, read_lines
from puma_cli.evaluation.bootstrap import interval
from puma_cli.profiling.profile import read_profile

# The judge of these students has the quantities and the ranks already.
sys.path.insert(0, str(HERE.parent / "analyze"))
from predictor import quantities, rank_correlation

RESAMPLES = 2_000


def note_predictions(students: Path, profiles: Path, results: Path) -> int:
    """Add what each teacher's profile says of its trained cuts; return how many were added."""
    path = results / "predictions.jsonl"
    known = {(line["teacher"], line["layers"]) for line in read_lines(path)}
    added = 0
    for line in read_lines(students):
        key = (line["teacher"], line["layers"])
        folder = profiles / line["teacher"]
        if key in known or not folder.is_dir():
            continue
        layers = tuple(map(int, line["layers"].split(",")))
        found = quantities(read_profile(folder), layers)
        append(path, {"teacher": key[0], "layers": key[1], "quantities": found})
        known.add(key)
        added += 1
    return added


def prediction_table(
    students: Sequence[Mapping[str, Any]], predictions: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return Spearman's correlation of each quantity with what trained cuts keep.

    It is taken within each teacher, and the mean over the teachers; intervals draw the teachers'
    cuts with replacement.
    """
    said = {(line["teacher"], line["layers"]): line["quantities"] for line in predictions}
    kept: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in students:
        kept[line["teacher"], line["layers"]].append(line["retention"])
    cuts: dict[str, list[tuple[Mapping[str, float], float]]] = defaultdict(list)
    for key, values in sorted(kept.items()):
        if key in said:
            cuts[key[0]].append((said[key], float(np.mean(values))))
    cuts = {teacher: each for teacher, each in cuts.items() if len(each) > 2}
    if not cuts:
        return []
    names = set.intersection(*(set(found) for each in cuts.values() for found, _ in each))
    rows = []
    for name in names:
        drawn = np.array(_resampled(cuts, name))
        rows.append((_mean_correlation(cuts, name), interval(drawn), name))
    number = sum(map(len, cuts.values()))
    return [
        "| quantity of the untrained model | rank correlation with what trained cuts keep | 95% |",
        "|---|---|---|",
        *(
            f"| {name} | {value:.2f} | {bounds.low:.2f} to {bounds.high:.2f} |"
            for value, bounds, name in sorted(rows, key=lambda row: (-row[0], row[2]))
        ),
        "",
        f"{number} cuts of {len(cuts)} teachers: {', '.join(cuts)}.",
    ]


Cuts = Mapping[str, Sequence[tuple[Mapping[str, float], float]]]


def _mean_correlation(cuts: Cuts, name: str) -> float:
    return float(
        np.mean(
            [
                rank_correlation([found[name] for found, _ in each], [k for _, k in each])
                for each in cuts.values()
            ]
        )
    )


def _resampled(cuts: Cuts, name: str) -> list[float]:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        drawn = {
            teacher: [each[i] for i in generator.integers(len(each), size=len(each))]
            for teacher, each in cuts.items()
        }
        found.append(_mean_correlation(drawn, name))
    return found
