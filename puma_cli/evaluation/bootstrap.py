"""Paired bootstrap over queries, stratified by task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CELLS = 4_000_000
_UNDEFINED = 0.01


class Interval(NamedTuple):
    """The bounds of a percentile interval."""

    low: float
    high: float


def resampled_means(values: Array, resamples: int, generator: np.random.Generator) -> Array:
    """Return the means of `resamples` draws of Q queries with replacement, paired over models.

    Equal queries are exchangeable, so a draw of queries is a multinomial draw over the distinct
    outcomes; for hit rates these are a handful however many queries there are.

    Args:
        values: (Q, M) metric of each query under each of M models, Q >= 1.
        resamples: number of draws B (>= 1).

    Returns:
        (B, M) means.
    """
    outcomes, counts = np.unique(values, axis=0, return_counts=True)
    shares = counts / counts.sum()
    chunk = max(1, _CELLS // len(outcomes))
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.multinomial(len(values), shares, size=size)
        means[start : start + size] = drawn @ outcomes / len(values)
    return means


def resampled_tasks(
    tasks: Sequence[Array], resamples: int, seed: int
) -> tuple[NDArray[np.float64], Array]:
    """Resample every task on its own and average the tasks plainly.

    Args:
        tasks: for each of T tasks the (Q_t, M) metric of its queries under M models.

    Returns:
        (T, B, M) means of the tasks and (B, M) means over the tasks.
    """
    # One stream for each task, so that a task's interval does not depend on its neighbours' sizes.
    streams = np.random.SeedSequence(seed).spawn(len(tasks))
    drawn = np.stack(
        [
            resampled_means(values, resamples, np.random.default_rng(stream))
            for values, stream in zip(tasks, streams, strict=True)
        ]
    )
    return drawn, drawn.mean(axis=0)


def interval(samples: Array, level: float = 0.95) -> Interval:
    """Return the central percentile interval of `samples` (B,) at a `level` in (0, 1)."""
    tail = 50 * (1 - level)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return Interval(float(low), float(high))


def ratio_interval(above: Array, below: Array, level: float = 0.95) -> Interval | None:
    """Return the percentile interval of a ratio of paired means, or None if it has no bounds.

    Args:
        above: (B,) resampled means of the model compared.
        below: (B,) resampled means of the reference. Where more than 1% of them are 0, so few of
            its queries score that the ratio says nothing.
    """
    defined = below > 0
    if defined.mean() < 1 - _UNDEFINED:
        return None
    return interval(above[defined] / below[defined], level)
