"""The same search by faiss, block by block: `pip install 'puma-cli[faiss]'`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from puma_cli.encoding.finite import check_finite
from puma_cli.encoding.vectors import Vectors
from puma_cli.errors import ConfigError
from puma_cli.evaluation.scanning import as_vectors, check_searchable
from puma_cli.evaluation.top import Best, merged

_ROWS = 65_536


def search_with_faiss(
    queries: Tensor | Vectors, candidates: Tensor | Vectors, k: int, block: int = _ROWS
) -> Best:
    """Return what `search` returns, by faiss's flat index, on the CPU.

    Its fp32 scores are rounded differently from block to block, so candidates whose scores differ
    in the last digit may change places.

    Args:
        queries: (Q, D) embeddings.
        candidates: (C, D) embeddings, C >= 1.
        k: results for each query (>= 1), cut to C.
        block: candidates in memory at a time.

    Raises:
        ConfigError: faiss is not installed.
        DataError: there are no candidates, or they are of another dimension.
        NumericError: an embedding is not finite.
    """
    faiss = _import()
    asked, pool = as_vectors(queries), as_vectors(candidates)
    check_searchable(asked, pool)
    k = min(k, len(pool))
    wanted = asked.rows(0, len(asked))
    check_finite("query", wanted)
    left = wanted.cpu().float().contiguous().numpy()
    best = torch.empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.long)
    for first in range(0, len(pool), block):
        rows = pool.rows(first, min(first + block, len(pool)))
        check_finite("candidate", rows)
        right = rows.cpu().float().contiguous().numpy()
        scores, places = faiss.knn(
            left, right, min(k, len(right)), metric=faiss.METRIC_INNER_PRODUCT
        )
        found = torch.from_numpy(scores), torch.from_numpy(places) + first
        best = merged(best, found, k)
    return best


def _import() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            "Searching with faiss needs the package faiss.",
            hint="pip install 'puma-cli[faiss]', or search without it: the results are the same.",
        ) from error
    return faiss
