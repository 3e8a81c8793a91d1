"""One task's queries scored in one pool."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from puma_cli.encoding.vectors import Vectors
from puma_cli.evaluation.faiss_search import search_with_faiss
from puma_cli.evaluation.metrics import ndcg
from puma_cli.evaluation.results import TaskScores
from puma_cli.evaluation.search import search_and_rank
from puma_cli.evaluation.tasks import Pool, Task
from puma_cli.evaluation.top import Best


def without_hubness(queries: Tensor, penalty: float) -> Tensor:
    """Return queries whose scores lack a share of each candidate's mean score over all of them.

    The mean over queries q of q·c is the product of their mean with c, so that
    q·c - p mean(q)·c = (q - p mean(q))·c: no table of all scores is needed.

    Args:
        queries: (Q, D) embeddings of all queries.
        penalty: the share p (>= 0).
    """
    if not penalty:
        return queries
    return queries.float() - penalty * queries.float().mean(dim=0, keepdim=True)


def score_row(
    task: Task,
    pool: Pool,
    queries: Tensor,
    candidates: Vectors,
    depth: int = 0,
    *,
    search_by: str = "torch",
    device: torch.device | str | None = None,
) -> tuple[TaskScores, Best]:
    """Return the scores of a task in a pool, and the `depth` best candidates of each query.

    Args:
        queries: (Q, D) embeddings.
        candidates: (C, D) embeddings.
        search_by: `torch` or `faiss`.
        device: where to multiply.

    Raises:
        NumericError: an embedding is not finite.
    """
    inside = pool.places_of(task.relevant)
    judged = np.array([len(dids) for dids in task.relevant], dtype=np.int64)
    found = np.array([len(row) for row in inside], dtype=np.int64)
    by_faiss = search_by == "faiss" and depth > 0
    best, ranks = search_and_rank(
        queries, candidates, 0 if by_faiss else depth, inside, device=device
    )
    if by_faiss:
        best = search_with_faiss(queries, candidates, depth)
    row = TaskScores(
        task=task.name.name,
        dataset=task.name.dataset,
        task_id=task.name.task_id,
        pool=pool.name,
        k=task.k,
        candidates=len(pool.candidates),
        available=task.available,
        missing=int((judged - found).sum()),
        unanswerable=int((found == 0).sum()),
        query_hash=task.digest,
        pool_hash=pool.digest,
        qids=tuple(query.qid for query in task.queries),
        ranks=ranks.first,
        ties=ranks.ties,
        positives=judged,
        ndcg=ndcg(ranks.positions, judged, 10),
    )
    return row, best
