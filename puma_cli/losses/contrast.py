"""Cross-entropy of scaled cosines in row blocks, which all contrastive losses share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.utils.checkpoint import checkpoint

# Scores that are held at a time, and with them a few tensors of the same size: 8 MB in fp32.
SCORES = 1 << 21


def cosines(queries: Tensor, candidates: Tensor) -> Tensor:
    """Return all cosines (B, C), in fp32 or better whatever the inputs are."""
    return unit(queries) @ unit(candidates).T


def unit(embeddings: Tensor) -> Tensor:
    """Return embeddings (B, D) at length 1, in fp32 or better; zeros stay zeros."""
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    return normalize(embeddings.to(wide), dim=-1)


def sum_over_rows(
    term: Callable[[Tensor], Tensor], rows: int, columns: int, device: torch.device
) -> Tensor:
    """Return the sum of `term` over all rows, a scalar; blocks of them are computed apart.

    Of several blocks none keeps its scores: the backward pass computes them once more, so that the
    memory is that of one block.

    Args:
        term: takes some rows' numbers (R,) and returns their sum.
        columns: scores in a row.
    """
    blocks = torch.arange(rows, device=device).split(max(1, SCORES // columns))
    if len(blocks) == 1:
        return term(blocks[0])
    parts = [
        checkpoint(term, block, use_reentrant=False, preserve_rng_state=False) for block in blocks
    ]
    return torch.stack(parts).sum()


def contrast(
    queries: Tensor,
    candidates: Tensor,
    temperature: Callable[[Tensor, Tensor], Tensor],
    target: Tensor | None = None,
    excluded: Tensor | None = None,
    symmetric: bool = False,
) -> Tensor:
    """Return the mean cross-entropy of cosine / temperature against each positive, a scalar.

    Args:
        queries: embeddings (B, D), normalised here.
        candidates: embeddings (C, D).
        temperature: takes numbers of queries and of candidates that broadcast, and returns the
            temperatures of the pairs, or one for all.
        target: number of each query's positive (B,); by default the diagonal.
        excluded: True where a candidate must not count as a negative (B, C); positives stay.
        symmetric: average with the direction from the positives to the queries.
    """
    asked, offered = unit(queries), unit(candidates)
    everyone = torch.arange(len(asked), device=asked.device)
    columns = torch.arange(len(offered), device=asked.device)
    positive = everyone if target is None else target

    def forth(rows: Tensor) -> Tensor:
        logits = asked[rows] @ offered.T / temperature(rows[:, None], columns[None, :])
        if excluded is not None:
            mask = without_positives(excluded[rows], positive[rows])
            logits = logits.masked_fill(mask, float("-inf"))
        return cross_entropy(logits, positive[rows], reduction="sum")

    def back(rows: Tensor) -> Tensor:
        answers = positive[rows]
        logits = offered[answers] @ asked.T / temperature(everyone[None, :], answers[:, None])
        # Queries that share a positive all belong to it, and are no negatives of one another.
        left_out = answers[:, None] == positive[None, :]
        if excluded is not None:
            left_out = left_out | excluded[:, answers].T
        logits = logits.masked_fill(without_positives(left_out, rows), float("-inf"))
        return cross_entropy(logits, rows, reduction="sum")

    count = len(asked)
    loss = sum_over_rows(forth, count, len(offered), asked.device) / count
    if symmetric:
        loss = (loss + sum_over_rows(back, count, count, asked.device) / count) / 2
    return loss


def without_positives(excluded: Tensor, target: Tensor) -> Tensor:
    """Return `excluded` (B, C) without the positives (B,), which always stay."""
    left_out = excluded.clone()
    left_out[torch.arange(len(target), device=target.device), target] = False
    return left_out
