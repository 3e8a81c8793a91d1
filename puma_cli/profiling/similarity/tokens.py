"""Which tokens are measured, which of them are attention sinks, and which dimensions dominate."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from puma_cli.profiling.similarity.measures import check_states, widen

TOKENS_PER_INPUT = 4
ABSENT = -1


def sample_places(
    lengths: Sequence[int], keys: Sequence[str], seed: int, each: int = TOKENS_PER_INPUT
) -> Tensor:
    """Draw real tokens of each input, from the seed and its key alone.

    The first token is never drawn, because attention sinks stand there, nor the last, which is the
    embed token and measured by itself. Neither the other inputs of a batch nor its padding matter.

    Args:
        lengths: (B,), real tokens of each input (>= 0).
        keys: (B,), what tells one input from another, such as its id.
        seed: seed of the draw.
        each: tokens to draw of each input (>= 0).

    Returns:
        (B, each), indices into each input's real tokens, in order and without repetition; an input
        with fewer than `each` tokens to draw gives all of them, and -1 in the rest of the row.
    """
    places = torch.full((len(lengths), each), ABSENT)
    for row, (length, key) in enumerate(zip(lengths, keys, strict=True)):
        digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
        inner = range(1, length - 1)
        drawn = sorted(random.Random(digest).sample(inner, min(each, len(inner))))
        places[row, : len(drawn)] = torch.tensor(drawn, dtype=torch.int64)
    return places


@torch.no_grad()
def is_sink(states: Tensor) -> Tensor:
    """Tell which rows are attention sinks, by massive activation (Sun et al., arXiv 2402.17762).

    A row is one if, at some depth from 1 on, a single coordinate holds more than half of the
    state's energy. That depends on the row alone, and not on what else is in the batch.

    Args:
        states: (L + 1, R, D), index k = after k layers.

    Returns:
        (R,) of bool, False for rows that are not finite.
    """
    found = torch.zeros(states.shape[1], dtype=torch.bool, device=states.device)
    for layer in states[1:]:
        # Over the largest coordinate, the squares sum to less than 2, and cannot overflow.
        size = layer.float().abs()
        found |= (size / size.amax(-1, keepdim=True)).square().sum(-1) < 2.0
    return found


@torch.no_grad()
def top_dimensions(states: Tensor, share: float = 0.01) -> Tensor:
    """Return the dimensions with the largest mean share of the energy, each at its best depth.

    Args:
        states: (L + 1, N, D) of a sample of rows, N >= 1.
        share: how many of the D dimensions, in (0, 1]; rounded up.

    Returns:
        indices (ceil(share * D),), the most energetic first, of equals the lower index.

    Raises:
        NumericError: a state is not finite, or zero.
    """
    check_states(states, "sampled tokens")
    largest = None
    for layer in states:
        energy = widen(layer).square()
        mean = energy.div_(energy.sum(-1, keepdim=True)).mean(0)
        largest = mean if largest is None else torch.maximum(largest, mean)
    if largest is None:
        raise ValueError("no depth was given")
    # 0.07 * 100 is a little over 7 in binary.
    count = max(1, math.ceil(share * len(largest) - 1e-9))
    return largest.argsort(descending=True, stable=True)[:count].to(states.device)
