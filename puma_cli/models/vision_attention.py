"""The vision tower's attention over many images at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

# transformers hands all images to an implementation called flash something, and loops over them
# for any other.
NAME = "puma_flash_packed"
_LENGTHS = "_puma_lengths"


def pack_images(tower: nn.Module) -> None:
    """Let the tower attend within all images of a size in one call.

    Without flash attention, transformers calls the attention once an image, or once a window of
    one: in a batch of hundreds of small images, these calls take longer than all else.

    Args:
        tower: a vision tower whose attention takes `cu_seq_lens_q`.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
    project: Any = getattr(getattr(tower, "patch_embed", None), "proj", None)
    if isinstance(project, nn.Conv3d) and project.stride == project.kernel_size:
        project.forward = partial(_as_product, project)  # type: ignore[method-assign]
    attention: Any
    for attention in tower.modules():
        if hasattr(attention, "qkv"):
            attention.config = _Packed(attention.config)


def project_as_stock(tower: nn.Module) -> None:
    """Let the tower project patches as stock code does, whose last digits are others."""
    project: Any = getattr(getattr(tower, "patch_embed", None), "proj", None)
    if project is not None:
        project.__dict__.pop("forward", None)


def _as_product(project: nn.Conv3d, patches: Tensor) -> Tensor:
    """Convolve patches (P, C, T, H, W) that each fill the kernel: a product, many times as fast."""
    rows = linear(patches.flatten(1), project.weight.flatten(1), project.bias)
    return rows.view(*rows.shape, 1, 1, 1)


class _Packed:
    """A tower's configuration as its attention sees it.

    The configuration itself stays as it is: it is written down, makes other models, and may be
    given another implementation later, which then counts.
    """

    def __init__(self, config: Any) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        # Asked for before there is a configuration while it is copied.
        if "_config" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._config, name)

    @property
    def _attn_implementation(self) -> str:
        chosen = str(self._config._attn_implementation)
        return NAME if chosen == "sdpa" else chosen


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float,
    cu_seq_lens_q: Tensor,
    **_: object,
) -> tuple[Tensor, None]:
    """Attend within each of the packed sequences; return (1, N, H, D), without weights.

    Args:
        query: queries of all sequences, one after another (1, H, N, D); key and value likewise.
        cu_seq_lens_q: where each sequence begins, and the end of the last (S + 1,).
    """
    lengths = _lengths(cu_seq_lens_q)
    distinct = sorted(set(lengths))

    def attend(length: int, places: Tensor | None) -> Tensor:
        # From (H, n * length, D) to n sequences side by side, and back to (n * length, H, D).
        q, k, v = (
            (each[0] if places is None else each[0].index_select(1, places))
            .unflatten(1, (-1, length))
            .transpose(0, 1)
            for each in (query, key, value)
        )
        out = scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
        return out.transpose(1, 2).flatten(0, 1)

    if len(distinct) == 1:
        return attend(distinct[0], None).unsqueeze(0), None
    of_each = torch.repeat_interleave(torch.tensor(lengths), torch.tensor(lengths))
    places = [torch.nonzero(of_each == length).flatten().to(query.device) for length in distinct]
    rows = torch.cat([attend(*group) for group in zip(distinct, places, strict=True)])
    return rows.index_select(0, torch.argsort(torch.cat(places))).unsqueeze(0), None


def _lengths(ends: Tensor) -> list[int]:
    """Return the sequences' lengths; a tower's layers share one tensor, and one look at it."""
    found: list[int] | None = getattr(ends, _LENGTHS, None)
    if found is None:
        found = (ends[1:] - ends[:-1]).tolist()
        setattr(ends, _LENGTHS, found)
    return found
