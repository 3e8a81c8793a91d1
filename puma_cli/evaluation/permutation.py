"""Paired permutation test: are two models the same on these queries, but for chance?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_EXACT = 16
_CELLS = 2_000_000
_ROUNDING = 1e-12


def permutation_p(differences: Sequence[Array], resamples: int, seed: int) -> float:
    """Return the two-sided p-value of the mean over tasks of the mean differences.

    If the two models were interchangeable, each query's difference could as well have the other
    sign. p is the share of all assignments of signs with a mean as far from 0 as the one seen.
    With at most 16 queries that differ all 2^n are counted; otherwise `resamples` are drawn, and p
    is (1 + as far) / (1 + drawn), never 0 (Phipson and Smyth 2010).

    Args:
        differences: for each task the metric of one model minus the other's by query (Q_t,).
        resamples: draws (>= 1).
    """
    shares = np.concatenate([each / (len(each) * len(differences)) for each in differences])
    seen = abs(float(shares.sum()))
    sizes = np.abs(shares[shares != 0])
    if len(sizes) == 0:
        return 1.0
    if len(sizes) <= _EXACT:
        return float((np.abs(_all_sums(sizes)) >= seen - _ROUNDING).mean())
    drawn = _drawn_sums(sizes, resamples, np.random.default_rng(seed))
    return float((1 + (np.abs(drawn) >= seen - _ROUNDING).sum()) / (1 + resamples))


def _all_sums(sizes: Array) -> Array:
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums + size, sums - size])
    return sums


def _drawn_sums(sizes: Array, resamples: int, generator: np.random.Generator) -> Array:
    """Draw sums of `sizes` with random signs.

    Of n equal sizes only the number of positive signs matters, which is binomial; of hit rates
    there is one size for each task, however many queries it has.
    """
    distinct, counts = np.unique(sizes, return_counts=True)
    chunk = max(1, _CELLS // len(distinct))
    sums = np.empty(resamples)
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        positive = generator.binomial(counts, 0.5, size=(stop - start, len(counts)))
        sums[start:stop] = (2.0 * positive - counts) @ distinct
    return sums
