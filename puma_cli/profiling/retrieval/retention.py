"""The share of the full model's score that each cut keeps, with paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puma_cli.evaluation.bootstrap import ratio_interval, resampled_tasks

RESAMPLES = 2_000


@dataclass(frozen=True)
class Retention:
    """Retention of the mean hit@1 over tasks at every depth of one reading.

    Args:
        share: the cut's score over the full model's at depths 0 to L, (L + 1,), or None where the
            full model scores nothing.
        low: lower ends of the 95% intervals, (L + 1,), or None where too few queries are answered
            by the full model to bound the ratio.
        high: upper ends, likewise.
    """

    share: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


def retention_curves(
    hits: Mapping[str, Sequence[NDArray[np.float64]]], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Retention]:
    """Return the retention of each reading.

    Queries are drawn with replacement within each task, the same for a cut and the full model.

    Args:
        hits: for each reading and task, hit@1 of each query at depths 0 to L, (Q, L + 1); at L
            stands the full model.
        seed: seed of the draws.
        resamples: number of draws (>= 1).
    """
    curves = {}
    for name, tasks in hits.items():
        _, drawn = resampled_tasks(tasks, resamples, seed)
        means = np.mean([task.mean(axis=0) for task in tasks], axis=0)
        bounds = [ratio_interval(drawn[:, k], drawn[:, -1]) for k in range(len(means))]
        curves[name] = Retention(
            share=tuple(float(mean / means[-1]) if means[-1] > 0 else None for mean in means),
            low=tuple(None if bound is None else bound.low for bound in bounds),
            high=tuple(None if bound is None else bound.high for bound in bounds),
        )
    return curves
