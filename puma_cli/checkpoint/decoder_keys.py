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
EMBEDDINGS: Final = "token embeddings"
NORM: Final = "final norm"
HEAD: Final = "LM head"
OTHER: Final = "other"
PARTS: Final = (LAYERS, VISION, EMBEDDINGS, NORM, HEAD, OTHER)

_LAYER = re.compile(r"(?P<prefix>(?:[\w\-]+\.)*layers\.)(?P<index>\d+)\.(?P<rest>.+)")
_VISION = re.compile(r"(^|\.)(visual|vision|vision_\w+|image_\w+)\.")


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
        if _VISION.search(name):
            return VISION
        if name.startswith(f"{stem}embed_tokens."):
            return EMBEDDINGS
        if name.startswith(f"{stem}norm."):
            return NORM
        return HEAD if _is_head(name) else OTHER


def find_decoder(names: Iterable[str]) -> Decoder:
    """Return where the decoder lies among weight names.

    Raises:
        CheckpointError: there is none, more than one, or a layer is missing.
    """
    found: dict[str, set[int]] = {}
    for name in names:
        match = _LAYER.fullmatch(name)
        if match and not _VISION.search(name):
            found.setdefault(match["prefix"], set()).add(int(match["index"]))
    if len(found) != 1:
        raise CheckpointError(
            "The checkpoint's decoder layers cannot be told from its weight names.",
            cause=f"Stacks of layers found: {', '.join(sorted(found)) or 'none'}.",
        )
    ((prefix, indices),) = found.items()
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


def _is_head(name: str) -> bool:
    return name == "lm_head.weight" or name.endswith(".lm_head.weight")
