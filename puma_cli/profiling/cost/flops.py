"""How many FLOPs a forward pass takes, counted from weight shapes and real lengths of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from puma_cli.models.embedder_settings import MEAN
from puma_cli.models.families import family_of
from puma_cli.models.processing import Batch

if TYPE_CHECKING:
    from puma_cli.models.embedder import Embedder


@dataclass(frozen=True)
class ForwardFlops:
    """FLOPs of the forward pass of one input, on average; a multiply-add counts as 2.

    Args:
        vision: patch embedding, vision blocks and merger, which every cut runs whole.
        layer: one decoder layer.
    """

    vision: float
    layer: float

    def at(self, k: int) -> float:
        """Return the FLOPs of the model cut after k decoder layers (0 to L)."""
        return self.vision + k * self.layer


def count_sizes(batch: Batch) -> tuple[list[int], list[int]]:
    """Return the tokens and the image patches of each input in a batch, without padding (B, B)."""
    tokens = batch.last + 1
    patches = torch.zeros_like(tokens)
    if batch.image_grid is not None:
        # An input has one image at most, and the images lie in the order of the inputs.
        patches[batch.token_types.bool().any(dim=1)] = batch.image_grid.prod(dim=1)
    return tokens.tolist(), patches.tolist()


def count_flops(model: Any, tokens: Sequence[int], patches: Sequence[int]) -> ForwardFlops:
    """Return the mean FLOPs of embedding inputs of the given lengths one by one, unpadded.

    Matrix products count, and nothing else: norms, activations, biases and rotary positions are
    ignored, and so is a linear head, which maps one state an input. An embedder has no LM head.
    Attention counts all T x T scores of T tokens, as do kernels that skip nothing of what a causal
    mask hides. A vision block that attends within windows counts whole ones: a little too much
    where the image's sides are no multiples of a window's.

    Args:
        model: a network; its sizes are read from its weights.
        tokens: tokens of each input, image tokens included (>= 1), for one input at least.
        patches: patches of each input's image before they are merged, 0 without an image.
    """
    inputs = len(tokens)
    if len(patches) != inputs:
        raise ValueError(f"There are {inputs} counts of tokens and {len(patches)} of patches.")
    family = family_of(model)
    layers, tower = family.decoder(model).layers, family.tower(model)
    decoder = sum(
        _linear_flops(layer) * sum(tokens)
        + sum(_attention_flops(layer.self_attn.o_proj, length, length) for length in tokens)
        for layer in layers
    )
    return ForwardFlops(
        vision=0.0 if tower is None else _vision_flops(tower, patches) / inputs,
        layer=decoder / len(layers) / inputs,
    )


def unread_flops(embedder: Embedder, tokens: Sequence[int]) -> float:
    """Return the mean FLOPs of `count_flops` that an embedder leaves out, for whatever depth.

    What the last layer's feed-forward part says of tokens besides the one that is read, nobody
    asks for; of mean pooling every token is read.

    Args:
        tokens: tokens of each input (>= 1), for one input at least.
    """
    if embedder.settings.pooling == MEAN:
        return 0.0
    part = embedder.decoder.layers[-1].mlp
    return _linear_flops(part) * (sum(tokens) - len(tokens)) / len(tokens)


def _vision_flops(visual: Any, patches: Sequence[int]) -> float:
    """Return the FLOPs of all images together."""
    embedding = visual.patch_embed.proj.weight
    # The merger's first linear takes as many patches at once as its inputs hold widths of one.
    merged = _linears(visual.merger)[0].in_features // embedding.shape[0]
    total = 2 * embedding.numel() * sum(patches)
    # Qwen3-VL has one for each depth of the tower that enters the decoder.
    for merger in (visual.merger, *getattr(visual, "deepstack_merger_list", ())):
        total += _linear_flops(merger) * sum(patches) // merged
    for index, block in enumerate(visual.blocks):
        window = _window(visual, index)
        total += _linear_flops(block) * sum(patches)
        total += sum(
            _attention_flops(block.attn.proj, n, n if window is None else min(n, window))
            for n in patches
        )
    return total


def _window(visual: Any, index: int) -> int | None:
    """Return the patches that a patch attends to in a block, or None where it is all of them."""
    if index in getattr(visual, "fullatt_block_indexes", range(len(visual.blocks))):
        return None
    merge = visual.spatial_merge_size
    return int(visual.window_size // merge // visual.patch_size * merge) ** 2


def _attention_flops(output: nn.Linear, queries: int, keys: int) -> int:
    # Scores and weighted sum, over all heads: what enters the output projection is as wide as the
    # queries, however few heads the keys have.
    return 2 * 2 * queries * keys * int(output.weight.shape[1])


def _linear_flops(module: nn.Module) -> int:
    """Return the FLOPs of all linears in a module for one row."""
    return sum(2 * linear.weight.numel() for linear in _linears(module))


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]
