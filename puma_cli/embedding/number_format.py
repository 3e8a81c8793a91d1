"""The number formats that vectors are kept in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
_TORCH = {FLOAT32: torch.float32, FLOAT16: torch.float16, INT8: torch.int8}
_STEPS = 127


@dataclass(frozen=True)
class Encoded:
    """Vectors as they are written.

    Args:
        numbers: (N, D) of the format.
        scales: fp32 (N,): a vector is its row of `numbers` times its scale; None without scales.
    """

    numbers: Tensor
    scales: Tensor | None = None


def encoded(vectors: Tensor, name: str) -> Encoded:
    """Return fp32 vectors (N, D) in a number format.

    In `int8`, each vector's largest component becomes 127 or -127, and none of the others is off by
    more than half of its scale, a 254th of that.
    """
    if name != INT8:
        return Encoded(vectors.to(_TORCH[name]))
    largest = vectors.abs().amax(dim=1) if vectors.numel() else vectors.new_zeros(len(vectors))
    scales = (largest / _STEPS).clamp_min(torch.finfo(torch.float32).tiny)
    return Encoded((vectors / scales[:, None]).round().to(torch.int8), scales)


def decoded(numbers: Tensor, scales: Tensor | None) -> Tensor:
    """Return vectors as they can be compared (N, D); those with scales in fp32."""
    return numbers if scales is None else numbers.float() * scales[:, None]
