"""Which part of the model a weight belongs to, read from its name on disk.

The layout on disk does not follow from the architecture, so names are looked at, never assumed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from puma_cli.checkpoint.safetensors_header import TensorEntry
from puma_cli.errors import CheckpointError

LAYERS: Final = "decoder layers"
VISION: Final = "vision"
AUDIO: Final = "audio"
PROJECTOR: Final = "projector"
EMBEDDINGS: Final = "token embeddings"
NORM: Final = "final norm"
HEAD: Final = "LM head"
OTHER: Final = "other"
PARTS: Final = (LAYERS, VISION, AUDIO, PROJECTOR, EMBEDDINGS, NORM, HEAD, OTHER)

# The outermost stack that a name lies in: experts and blocks inside a layer have numbers too.
_LAYER = re.compile(r"(?P<prefix>(?:[^.]+\.)*?layers\.)(?P<index>0|[1-9][0-9]{0,4})\.(?P<rest>.+)")
_TOWERS: Final = (
    (VISION, re.compile(r"(^|\.)(visual|vision|vit|vision_\w+|image_\w+|video_\w+)\.")),
    (AUDIO, re.compile(r"(^|\.)(audio|speech|audio_\w+|speech_\w+)\.")),
    (PROJECTOR, re.compile(r"(^|\.)(\w*projector|connector|mm_proj\w*|\w*resampler)\.")),
)


@dataclass(frozen=True)
class Decoder:
    """Where the decoder lies among a checkpoint's names.

    Args:
        prefix: what precedes a layer's index, such as `model.layers.`.
        depth: number of layers, whose indices are 0 to `depth - 1`.
    """

    prefix: str
    depth: int

    def layer_of(self, name: str) -> int | None:
        """Return the index of the decoder layer that the weight `name` belongs to, or None."""
        match = _LAYER.fullmatch(name)
        return int(match["index"]) if match and match["prefix"] == self.prefix else None

    def renumbered(self, name: str, index: int) -> str:
        """Return the name of a layer's weight with the layer's index replaced."""
        rest = name.removeprefix(self.prefix).partition(".")[2]
        return f"{self.prefix}{index}.{rest}"

    def part_of(self, name: str) -> str:
        """Return the part of the model, one of `PARTS`, that the weight `name` belongs to."""
        stem = self.prefix.removesuffix("layers.")
        if self.layer_of(name) is not None:
            return LAYERS
        tower = _tower_of(name)
        if tower:
            return tower
        if name.startswith(f"{stem}embed_tokens."):
            return EMBEDDINGS
        if name.startswith(f"{stem}norm."):
            return NORM
        return HEAD if _is_head(name) else OTHER


def find_decoder(names: Iterable[str]) -> Decoder:
    """Return where the decoder lies among weight names.

    It is the stack of layers beside the token embeddings, or, where these are elsewhere, the only
    stack that belongs to no vision or audio tower.

    Raises:
        CheckpointError: there is none, more than one, or a layer is missing.
    """
    found: dict[str, set[int]] = {}
    beside: set[str] = set()
    for name in names:
        match = _LAYER.fullmatch(name)
        if match:
            found.setdefault(match["prefix"], set()).add(int(match["index"]))
        elif name.endswith("embed_tokens.weight"):
            beside.add(name.removesuffix("embed_tokens.weight") + "layers.")
    prefixes = sorted(beside & set(found)) or sorted(p for p in found if not _tower_of(p))
    if len(prefixes) != 1:
        raise CheckpointError(
            "The checkpoint's decoder layers cannot be told from its weight names.",
            cause=f"Stacks of layers found: {', '.join(prefixes or sorted(found)) or 'none'}.",
            hint="puma cuts models with one decoder, whose weights are named `...layers.N...`.",
        )
    prefix, indices = prefixes[0], found[prefixes[0]]
    if len(indices) <= max(indices):
        missing = next(index for index in count() if index not in indices)
        raise CheckpointError(
            f"The checkpoint lacks decoder layer {missing} of {max(indices) + 1}.",
            hint="Download or copy the checkpoint again.",
        )
    return Decoder(prefix, len(indices))


def parameters_by_part(decoder: Decoder, tensors: Mapping[str, TensorEntry]) -> dict[str, int]:
    """Return the number of parameters of each part of the model that has any."""
    counts = dict.fromkeys(PARTS, 0)
    for name, entry in tensors.items():
        counts[decoder.part_of(name)] += entry.parameters
    return {part: count for part, count in counts.items() if count}


def _tower_of(name: str) -> str:
    """Return the part beside the decoder that a name is of, or an empty string."""
    return next((part for part, pattern in _TOWERS if pattern.search(name)), "")


def _is_head(name: str) -> bool:
    return name.startswith("lm_head.") or ".lm_head." in name
