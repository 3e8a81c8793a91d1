"""From the hidden states of all tokens to one row an input."""

from __future__ import annotations

import torch
from torch import Tensor

from puma_cli.models.embedder_settings import EOS, FIRST


def read_places(ids: Tensor, mask: Tensor, pooling: str, embed_id: int | None = None) -> Tensor:
    """Return the token of each input at which its state is read (B,).

    For the mean, which reads all, it is the last. Without an embed token in its row, `eos` reads
    the last token too.

    Args:
        ids: token ids (B, T), right-padded.
        mask: 1 for real tokens (B, T).
        embed_id: the token that `eos` looks for.
    """
    if pooling == FIRST:
        return torch.zeros(len(ids), dtype=torch.long, device=ids.device)
    last = mask.sum(dim=1) - 1
    if pooling != EOS:
        return last
    found = (ids == embed_id) & (mask == 1)
    from_behind = found.long().flip(1).argmax(dim=1)
    return torch.where(found.any(dim=1), ids.shape[1] - 1 - from_behind, last)


def rows_at(hidden: Tensor, places: Tensor) -> Tensor:
    """Return the states (B, D) of one token of each input, of those of all (B, T, D)."""
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), places]


def mean_rows(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over real tokens (B, D) of states (B, T, D), summed in float32 or more."""
    wide = hidden if hidden.dtype is torch.float64 else hidden.float()
    # Not a product with the mask: padding may be anything, even no number.
    kept = wide.masked_fill(mask.unsqueeze(-1) == 0, 0)
    return (kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)).to(hidden.dtype)
