"""Splitting a padded batch into parts of like length, which compute the same and pad less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puma_cli.models.batch_plan import PASS_TOKENS, cheapest_cuts
from puma_cli.models.processing import Batch

# On a GPU a pass also costs launches, which take some 300 microseconds a layer while 2e14
# operations a second could be done.
_GPU_OPERATIONS = 300e-6 * 2e14


def pass_tokens(layer: nn.Module) -> int:
    """Return how many tokens could be computed in the time that one more pass takes.

    Args:
        layer: a decoder layer, where it will run.
    """
    weights = list(layer.parameters())
    on_gpu = any(weight.device.type == "cuda" for weight in weights)
    return tokens_of_a_pass(sum(weight.numel() for weight in weights), on_gpu)


def tokens_of_a_pass(weights: int, on_gpu: bool) -> int:
    """Return what one more pass costs, in tokens, through layers of so many weights."""
    return max(PASS_TOKENS, int(_GPU_OPERATIONS / (2 * weights))) if on_gpu else PASS_TOKENS


@dataclass(frozen=True)
class Part:
    """Some rows of a batch, padded to the longest of them alone.

    Args:
        rows: their places in the whole batch (B').
        batch: the rows as a batch of their own.
    """

    rows: Tensor
    batch: Batch


def split_by_length(batch: Batch, per_pass: int = PASS_TOKENS) -> list[Part]:
    """Return the parts of a batch with the least sum of padded tokens and costs of a pass.

    A batch of short and long inputs, padded to the longest, can be half padding. An embedding does
    not depend on padding, so the rows may as well be computed apart.

    Args:
        batch: B right-padded inputs, each with one image at most.
        per_pass: the cost of one more part, in tokens (>= 0).
    """
    lengths = (batch.last + 1).tolist()
    places = places_by_length(lengths, per_pass)
    if len(places) == 1:
        return [Part(torch.arange(len(lengths), device=batch.last.device), batch)]
    parts = []
    for part in places:
        rows = torch.tensor(part, device=batch.last.device)
        parts.append(Part(rows, select_rows(batch, rows)))
    return parts


def places_by_length(lengths: Sequence[int], per_pass: int = PASS_TOKENS) -> list[list[int]]:
    """Return which rows of these lengths the parts of `split_by_length` hold, as their places."""
    found = np.array(lengths)
    order = np.argsort(found, kind="stable")
    ends = cheapest_cuts(found[order], per_pass)
    # In the order of the batch, since the images of its rows lie in that order.
    return [
        np.sort(order[start:end]).tolist() for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def in_order(rows: Sequence[Tensor], outputs: Sequence[Tensor]) -> Tensor:
    """Return outputs (B', D) of parts with these `rows` (B') as rows of the whole batch (B, D)."""
    if len(rows) == 1 and bool((rows[0].diff() > 0).all()):
        return outputs[0]
    return torch.cat(list(outputs))[torch.argsort(torch.cat(list(rows)))]


def select_rows(batch: Batch, rows: Tensor) -> Batch:
    """Return the batch of some rows (B'), in ascending order, cut to the longest of them."""
    last = batch.last[rows]
    width = int(last.max()) + 1
    chosen = _images_of(batch, rows)
    return Batch(
        input_ids=batch.input_ids[rows, :width],
        attention_mask=batch.attention_mask[rows, :width],
        position_ids=batch.position_ids[:, rows, :width],
        token_types=batch.token_types[rows, :width],
        last=last,
        read=None if batch.read is None else batch.read[rows],
        **({} if chosen is None else select_images(batch, chosen)),
    )


def select_images(batch: Batch, chosen: Tensor) -> dict[str, Any]:
    """Return the fields of a batch that hold images, for those that are True in `chosen` (I)."""
    assert batch.pixel_values is not None and batch.image_grid is not None
    chosen = chosen.to(batch.image_grid.device)
    patches = batch.image_grid.prod(dim=1)
    return {
        "pixel_values": batch.pixel_values[chosen.repeat_interleave(patches)],
        "image_grid": batch.image_grid[chosen],
        "images": tuple(
            image for image, kept in zip(batch.images, chosen.tolist(), strict=True) if kept
        ),
    }


def _images_of(batch: Batch, rows: Tensor) -> Tensor | None:
    """Tell which of the batch's images belong to the rows (I), or None if none does."""
    if batch.pixel_values is None:
        return None
    has_image = batch.token_types.bool().any(dim=1)
    chosen = torch.zeros_like(has_image)
    chosen[rows] = True
    images = chosen[has_image]
    return images if bool(images.any()) else None
