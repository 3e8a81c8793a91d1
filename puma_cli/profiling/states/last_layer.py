"""The last decoder layer at the embed token alone, which is all that a keep-last cut reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def last_layer_at(
    layer: Any, hidden: Tensor, last: Tensor, positions: tuple[Tensor, Tensor]
) -> Tensor:
    """Return what a decoder layer of Qwen2 or Qwen3 makes of the embed token of each input, (B, D).

    Other tokens matter by their keys and values only, so queries, the output projection and the MLP
    run on one token of T: about a twelfth of the layer where there are few key-value heads.

    Args:
        layer: a decoder layer with causal attention.
        hidden: its input (B, T, D), right-padded.
        last: place of the embed token (B,).
        positions: rotary cosines and sines, each (B, T, head size).
    """
    attention = layer.self_attn
    rows = torch.arange(len(hidden), device=hidden.device)
    normed = layer.input_layernorm(hidden)
    size = attention.head_dim
    keys = attention.k_proj(normed).unflatten(-1, (-1, size))
    values = attention.v_proj(normed).unflatten(-1, (-1, size))
    queries = attention.q_proj(normed[rows, last]).unflatten(-1, (-1, size))
    if hasattr(attention, "q_norm"):  # Qwen3's
        queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    cos, sin = (table.expand(len(hidden), -1, -1) for table in positions)
    keys = _turned(keys, cos[:, :, None], sin[:, :, None])
    queries = _turned(queries, cos[rows, last][:, None], sin[rows, last][:, None])
    # Query heads h*G to h*G + G - 1 share the key-value head h.
    grouped = queries.unflatten(1, (keys.shape[2], -1))
    scores = torch.einsum("bhgd,bthd->bhgt", grouped, keys).float() * attention.scaling
    place = torch.arange(hidden.shape[1], device=hidden.device)
    seen = place <= last[:, None]
    if getattr(attention, "sliding_window", None) is not None:
        seen &= place > last[:, None] - attention.sliding_window
    scores = scores.masked_fill(~seen[:, None, None], float("-inf"))
    weights = scores.softmax(dim=-1).to(values)
    mixed = torch.einsum("bhgt,bthd->bhgd", weights, values).flatten(1)
    state = hidden[rows, last] + attention.o_proj(mixed)
    result: Tensor = state + layer.mlp(layer.post_attention_layernorm(state))
    return result


def _turned(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to (..., head size); the two halves of a head turn together."""
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-second, first], dim=-1) * sin
