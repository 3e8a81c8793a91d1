"""Gradients of several processes: their mean, and their norm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from puma_cli.processes import Processes

# Numbers that are exchanged at once: many small tensors would cost a round trip each.
BUCKET = 1 << 24


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter], processes: Processes) -> None:
    """Replace each gradient by its mean over all processes.

    A process whose part of the batch did not touch a parameter counts as 0, as it does with inputs
    without images and the vision tower; untouched by all, a parameter stays without a gradient.
    What is sharded was averaged on its way already.
    """
    if processes.count == 1:
        return
    whole = [parameter for parameter in parameters if not is_sharded(parameter)]
    touched = torch.tensor([parameter.grad is not None for parameter in whole], dtype=torch.int32)
    processes.total(touched)
    gradients = []
    for parameter, count in zip(whole, touched.tolist(), strict=True):
        if count and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        processes.total(flat)
        flat /= processes.count
        for gradient, mean in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(mean.view_as(gradient))


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their norm is at most `limit`; return the norm before.

    Args:
        parameters: trained ones, whole or sharded; the norm is that of all shards together.
    """
    found = [parameter for parameter in parameters if parameter.grad is not None]
    kinds = [[p for p in found if is_sharded(p) is sharded] for sharded in (False, True)]
    norms = [
        whole_tensor(get_total_norm([p.grad for p in kind if p.grad is not None]))
        for kind in kinds
        if kind
    ]
    norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
    for kind in kinds:
        clip_grads_with_norm_(kind, limit, norm)
    return norm


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether a tensor lies in parts on several processes."""
    return hasattr(tensor, "full_tensor")


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor in one piece; of a sharded one, all processes must ask for it."""
    sharded: Any = tensor
    return sharded.full_tensor() if is_sharded(tensor) else tensor


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield gradients of one dtype together, up to some millions of numbers."""
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        bucket: list[Tensor] = []
        for gradient in gradients:
            if gradient.dtype is not dtype:
                continue
            if bucket and sum(g.numel() for g in bucket) + gradient.numel() > BUCKET:
                yield bucket
                bucket = []
            bucket.append(gradient)
        if bucket:
            yield bucket
