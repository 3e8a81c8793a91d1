"""Attention over many images at once against one call an image."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load
from puma_cli.models.processing import Batch
from puma_cli.models.vision_attention import NAME, packed_attention

HEADS, SIZE = 2, 4


@pytest.mark.parametrize("lengths", [[5], [4, 4, 4], [4, 8, 4, 2, 8], [1, 2, 3]])
def test_each_sequence_attends_within_itself(lengths: list[int]) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(
        3, 1, HEADS, sum(lengths), SIZE, dtype=torch.double, requires_grad=True
    ).unbind()
    ends = torch.tensor([0, *lengths]).cumsum(0)
    ours, _ = packed_attention(
        nn.Module(), query, key, value, None, scaling=0.3, dropout=0.0, cu_seq_lens_q=ends
    )
    apart = [
        scaled_dot_product_attention(q, k, v, scale=0.3).transpose(1, 2)
        for q, k, v in zip(*(each.split(lengths, 2) for each in (query, key, value)), strict=True)
    ]
    theirs = torch.cat(apart, dim=1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
    weights = torch.randn_like(theirs)
    ours_back, theirs_back = (
        torch.autograd.grad((out * weights).sum(), [query, key, value]) for out in (ours, theirs)
    )
    for one, other in zip(ours_back, theirs_back, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


def images_of(embedder: Embedder, grids: list[tuple[int, int, int]]) -> Batch:
    """Return a batch of random images alone, with these patches in time, height and width."""
    patches = sum(t * h * w for t, h, w in grids)
    config = embedder.model.config.vision_config
    width = 3 * config.temporal_patch_size * config.patch_size**2
    nothing = torch.empty(0)
    return Batch(
        nothing,
        nothing,
        nothing,
        nothing,
        nothing,
        pixel_values=torch.randn(patches, width),
        image_grid=torch.tensor(grids),
    )


def attentions(embedder: Embedder) -> list[Any]:
    return [module for module in embedder.model.visual.modules() if hasattr(module, "qkv")]


def test_a_tower_says_of_images_of_several_sizes_what_it_says_of_each(
    tiny_checkpoint: Path,
) -> None:
    torch.manual_seed(0)
    embedder = load(tiny_checkpoint, "cpu", "float32")
    assert attentions(embedder)
    batch = images_of(embedder, [(1, 4, 4), (1, 2, 6), (1, 4, 4), (1, 6, 2), (1, 2, 2)])
    found = []
    for chosen, used in (("sdpa", NAME), ("eager", "eager")):
        embedder.model.set_attn_implementation(chosen)
        assert {each.config._attn_implementation for each in attentions(embedder)} == {used}
        with torch.no_grad():
            found.append(embedder.vision_features(batch).pooler_output)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_packing_is_not_written_down(tiny_checkpoint: Path, tmp_path: Path) -> None:
    embedder = load(tiny_checkpoint, "cpu", "float32")
    embedder.save(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    other = type(embedder.model)(embedder.model.config)
    assert other.visual.config._attn_implementation == "sdpa"
    assert copy.deepcopy(embedder.model).visual.blocks[0].attn.config.depth == len(
        embedder.model.visual.blocks
    )
