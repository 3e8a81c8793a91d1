"""Intervals of means, differences and ratios, paired by query and by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puma_cli.evaluation.bootstrap import Interval, interval, ratio_interval
from puma_cli.evaluation.permutation import permutation_p

Array = NDArray[np.float64]
RESAMPLES = 4_000
_CELLS = 4_000_000


@dataclass(frozen=True)
class Paired:
    """A variant beside the baseline.

    Args:
        score: mean over seeds and tasks [0, 1].
        reference: the baseline's.
        kept: their ratio, or None where the baseline scores nothing.
        p_value: of the difference over queries, the seeds' mean taken (paired permutation test).
        seeds: how many the two have in common.
    """

    score: float
    score_interval: Interval
    reference: float
    difference: float
    difference_interval: Interval
    kept: float | None
    kept_interval: Interval | None
    p_value: float
    seeds: int


def resampled(tasks: Sequence[Array], resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Resample seeds and queries, and return the means over the tasks, (B, M).

    A draw takes S seeds with replacement, the same for all tasks and models, and each task's
    queries with replacement, the same for all seeds and models.

    Args:
        tasks: for each task the metric of every seed and query under M models (S, Q_t, M).
        resamples: draws B (>= 1).
    """
    seeds = tasks[0].shape[0]
    first, *streams = np.random.SeedSequence(seed).spawn(len(tasks) + 1)
    drawn = np.random.default_rng(first)
    of_seeds = drawn.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    total = np.zeros((resamples, tasks[0].shape[2]))
    for values, stream in zip(tasks, streams, strict=True):
        generator, queries = np.random.default_rng(stream), values.shape[1]
        chunk = max(1, _CELLS // (queries * values.shape[2]))
        for start in range(0, resamples, chunk):
            part = of_seeds[start : start + chunk]
            even = np.full(queries, 1 / queries)
            of_queries = generator.multinomial(queries, even, size=len(part)) / queries
            # (B, S) x (S, Q, M) -> (B, Q, M), then over the queries.
            means = np.einsum("bs,sqm,bq->bm", part, values, of_queries, optimize=True)
            total[start : start + chunk] += means
    return total / len(tasks)


def compare(
    ours: Sequence[Array], theirs: Sequence[Array], resamples: int = RESAMPLES, seed: int = 0
) -> Paired:
    """Compare two variants, each with the metric of every task (S, Q_t).

    A side with one seed, such as a model that is not trained, stands beside every seed of the
    other.

    Raises:
        ValueError: they differ in tasks, queries or seeds.
    """
    if [each.shape[1] for each in ours] != [each.shape[1] for each in theirs]:
        raise ValueError("The two were not scored on the same queries.")
    counts = {ours[0].shape[0], theirs[0].shape[0]}
    if len(counts - {1}) > 1:
        raise ValueError(f"There are {sorted(counts)} seeds.")
    seeds = max(counts)
    both = [
        np.stack([np.broadcast_to(side, (seeds, side.shape[1])) for side in pair], axis=2)
        for pair in zip(ours, theirs, strict=True)
    ]
    drawn = resampled(both, resamples, seed)
    score, reference = np.mean([each.mean(axis=(0, 1)) for each in both], axis=0).tolist()
    over_queries = [(each[:, :, 0] - each[:, :, 1]).mean(axis=0) for each in both]
    return Paired(
        score=score,
        score_interval=interval(drawn[:, 0]),
        reference=reference,
        difference=score - reference,
        difference_interval=interval(drawn[:, 0] - drawn[:, 1]),
        kept=score / reference if reference > 0 else None,
        kept_interval=ratio_interval(drawn[:, 0], drawn[:, 1]),
        p_value=permutation_p(over_queries, resamples, seed),
        seeds=seeds,
    )
