"""What a contrastive batch looks like from outside: how many answers are found, among what."""

from __future__ import annotations

import torch
from torch import Tensor

from puma_cli.losses.contrast import cosines, without_positives


@torch.no_grad()
def batch_accuracy(
    queries: Tensor,
    candidates: Tensor,
    target: Tensor,
    excluded: Tensor,
    candidate_modality: Tensor,
) -> dict[str, float]:
    """Return the share of queries whose positive beats all negatives, of both kinds and of each.

    `intra`: those of the positive's own modality; `inter`: those of others. A kind that no query
    has negatives of is left out.

    Args:
        queries: embeddings (B, D).
        candidates: embeddings (C, D).
        target: index of each query's positive (B,).
        excluded: True where a candidate is no negative (B, C).
        candidate_modality: one code a candidate (C,).
    """
    scores = cosines(queries, candidates)
    rows = torch.arange(len(target), device=target.device)
    negative = ~without_positives(excluded, target)
    negative[rows, target] = False
    same = candidate_modality[target][:, None] == candidate_modality[None, :]
    positive = scores[rows, target]
    found = {}
    kinds = {"accuracy": negative, "intra": negative & same, "inter": negative & ~same}
    for name, kind in kinds.items():
        asked = kind.any(dim=1)
        if bool(asked.any()):
            best = scores.masked_fill(~kind, float("-inf")).amax(dim=1)
            found[name] = float((positive > best)[asked].double().mean())
    return found
