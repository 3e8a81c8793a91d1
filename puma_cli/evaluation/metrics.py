"""Retrieval metrics, one value for each query, computed from the ranks of its relevant candidates.

Ranks start at 1; 0 stands for "not ranked" (a relevant candidate that the pool does not hold, or
padding). `puma_cli.evaluation.search.rank_relevant` makes them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from puma_cli.errors import ConfigError

Array = NDArray[np.float64]


def first_rank(ranks: ArrayLike) -> NDArray[np.int64]:
    """Return the rank of each query's first relevant candidate, 0 where none is ranked.

    Args:
        ranks: (Q,) or (Q, R) ranks of the relevant candidates in any order, 0 for padding.
    """
    table = np.asarray(ranks, dtype=np.int64)
    if table.ndim == 1:
        return table
    if table.shape[1] == 0:
        return np.zeros(len(table), dtype=np.int64)
    beyond = np.iinfo(np.int64).max
    first = np.where(table > 0, table, beyond).min(axis=1)
    return np.where(first == beyond, 0, first)


def hit_rate(ranks: ArrayLike, k: int) -> Array:
    """Return 1 for each query with a relevant candidate in its top `k`, else 0.

    This is what M-BEIR calls Recall@K: further relevant candidates add nothing.

    Args:
        ranks: (Q,) or (Q, R) ranks of the relevant candidates, 0 for padding.
        k: cutoff (>= 1).
    """
    first = first_rank(ranks)
    return ((first > 0) & (first <= _cutoff(k))).astype(np.float64)


def reciprocal_rank(ranks: ArrayLike, k: int) -> Array:
    """Return 1 / rank of each query's first relevant candidate, 0 where it is beyond `k`.

    Args:
        ranks: (Q,) or (Q, R) ranks of the relevant candidates, 0 for padding.
        k: cutoff (>= 1).
    """
    first = first_rank(ranks)
    return hit_rate(first, k) / np.maximum(first, 1)


def ndcg(ranks: ArrayLike, relevant: ArrayLike, k: int) -> Array:
    """Return the normalised discounted cumulative gain of each query at `k`, with gains of 0 or 1.

    Args:
        ranks: (Q, R) ranks of the relevant candidates, 0 for padding; it must name every one that
            stands in the top `k`.
        relevant: (Q,) number of relevant candidates judged for each query, those missing from the
            pool included, since a perfect run would have found them.
        k: cutoff (>= 1).

    Returns:
        (Q,) values in [0, 1]; 0 for a query without relevant candidates.

    Source: Jaervelin and Kekaelaeinen 2002, with log2(rank + 1) as in trec_eval.
    """
    table = np.asarray(ranks, dtype=np.int64)
    counted = (table > 0) & (table <= _cutoff(k))
    gains = np.where(counted, 1.0 / np.log2(np.maximum(table, 1) + 1.0), 0.0).sum(axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(1, k + 1) + 1.0))])
    best = ideal[np.minimum(np.asarray(relevant, dtype=np.int64), k)]
    return np.divide(gains, best, out=np.zeros_like(gains), where=best > 0)


_BY_NAME: dict[str, Callable[[ArrayLike, int], Array]] = {
    "hit": hit_rate,
    "mrr": reciprocal_rank,
}


def from_first_rank(metric: str, ranks: ArrayLike) -> Array:
    """Return a metric that needs no more than the first relevant rank, by name.

    Args:
        metric: `hit@K` or `mrr@K`, K >= 1.
        ranks: (Q,) ranks of the first relevant candidate, 0 for none.

    Raises:
        ConfigError: the name is not of that form.
    """
    name, _, cutoff = metric.partition("@")
    if name not in _BY_NAME or not cutoff.isdecimal() or int(cutoff) < 1:
        raise ConfigError(
            f"Unknown metric {metric!r}.", hint="Use hit@K, mrr@K (any K from 1) or ndcg@10."
        )
    return _BY_NAME[name](ranks, int(cutoff))


def _cutoff(k: int) -> int:
    if k < 1:
        raise ConfigError(f"A metric's cutoff must be at least 1, not {k}.")
    return k
