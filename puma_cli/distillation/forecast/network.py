"""The sizes of a network, from its headers and its config alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.decoder_keys import EMBEDDINGS, HEAD, LAYERS, VISION, find_decoder
from puma_cli.checkpoint.model_facts import read_config
from puma_cli.checkpoint.safetensors_header import TensorEntry, checkpoint_headers
from puma_cli.config.lora_settings import ALL_TARGETS
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.family_names import EMBEDS
from puma_cli.models.head_file import head_shape

Shape = tuple[int, ...]
# The linears of a decoder layer.
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Tower:
    """Sizes of a vision tower.

    Args:
        width: numbers of a patch's state E.
        inner: numbers inside a block's perceptron.
        blocks: how many blocks there are.
        heads: attention heads.
        patch: pixel values of a patch.
        merged: patches that become one token.
        gated: whether a perceptron multiplies two branches, as in Qwen2.5-VL.
    """

    width: int
    inner: int
    blocks: int
    heads: int
    patch: int
    merged: int
    gated: bool


@dataclass(frozen=True)
class Network:
    """Sizes of a checkpoint as an embedder: without an LM head, with the head of its own.

    Args:
        folder: where it lies.
        layers: shapes of each decoder layer's weights by their names within the layer.
        embeddings: shapes of the token embedding table.
        vision: shapes of the vision tower and its merger.
        rest: shapes of the final norm and of what else the decoder has.
        head: shapes of the head after the final norm, if there is one.
        heads: attention heads.
        tower: sizes of the vision tower.
        tensors: every tensor's entry by part, layer and name, to compare with another's.
    """

    folder: Path
    layers: tuple[dict[str, Shape], ...]
    embeddings: tuple[Shape, ...]
    vision: tuple[Shape, ...]
    rest: tuple[Shape, ...]
    head: tuple[Shape, ...]
    heads: int
    tower: Tower
    tensors: dict[tuple[str, int, str], TensorEntry]

    @property
    def depth(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """Length D of the decoder's states."""
        return self.linear("q_proj")[1]

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self.head[0][1] if self.head else self.width

    def linear(self, name: str) -> Shape:
        """Return the outputs and inputs of a decoder layer's linear, such as `q_proj`."""
        return _shape(self.folder, self.layers[0], f"{name}.weight")

    def linears(self, targets: Sequence[str] = (ALL_TARGETS,)) -> list[Shape]:
        """Return the outputs and inputs of each linear of a decoder layer that a target names."""
        ends = {target.rpartition(".")[2] for target in targets}
        return [self.linear(name) for name in LINEARS if ends & {name, ALL_TARGETS}]

    def layer(self, index: int) -> list[Shape]:
        """Return the shapes of a decoder layer's weights."""
        return list(self.layers[index].values())

    def all_layers(self) -> list[Shape]:
        """Return the shapes of all decoder layers' weights."""
        return [shape for layer in self.layers for shape in layer.values()]

    def everything(self) -> list[Shape]:
        """Return the shapes of all weights."""
        others = (*self.embeddings, *self.vision, *self.rest, *self.head)
        return [*self.all_layers(), *others]


def read_network(folder: Path) -> Network:
    """Return the sizes of the checkpoint in a folder; no weight is read.

    Raises:
        CheckpointError: a file is missing, broken, or of another architecture.
    """
    headers = checkpoint_headers(folder)
    decoder = find_decoder(headers)
    settings = settings_for(folder)
    config = read_config(folder)
    text = config.get("text_config") or config
    layers: list[dict[str, Shape]] = [{} for _ in range(decoder.depth)]
    tensors: dict[tuple[str, int, str], TensorEntry] = {}
    others: dict[str, list[Shape]] = {}
    vision: dict[str, Shape] = {}
    for name, entry in headers.items():
        part, index = decoder.part_of(name), decoder.layer_of(name)
        if part == HEAD:
            continue
        if part == LAYERS and index is not None:
            short = decoder.renumbered(name, 0)
            layers[index][short] = entry.shape
            tensors[LAYERS, index, short.rsplit("layers.", 1)[-1]] = entry
            continue
        short = name.rsplit("visual.", 1)[-1] if part == VISION else name.rsplit(".", 2)[-2]
        tensors[part, 0, short] = entry
        others.setdefault(part, []).append(entry.shape)
        if part == VISION:
            vision[short] = entry.shape
    head: tuple[Shape, ...] = ()
    if settings.head is not None:
        shape = head_shape(folder, settings.head)
        head = (shape, shape[1:])
    seen = others.pop(VISION, [])
    table = others.pop(EMBEDDINGS, [])
    found = Network(
        folder=folder,
        layers=tuple(layers),
        embeddings=tuple(table),
        vision=tuple(seen),
        rest=tuple(shape for shapes in others.values() for shape in shapes),
        head=head,
        heads=int(text.get("num_attention_heads") or 1),
        tower=_tower(folder, vision, config.get("vision_config") or {}),
        tensors=tensors,
    )
    found.linears()
    return found


def count(shapes: Sequence[Shape]) -> int:
    """Return the numbers in tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes)


def same_sample(ours: Network, theirs: Network, part: str, places: Mapping[int, int]) -> bool:
    """Tell whether a part's tensors begin with the same numbers in both; whole ones are not read.

    Args:
        part: one of `decoder_keys.PARTS`.
        places: layers of the one and those of the other that they are compared with; 0 to 0 for
            what is no layer.
    """
    mine = {(i, name): e for (p, i, name), e in ours.tensors.items() if p == part}
    other = {(i, name): e for (p, i, name), e in theirs.tensors.items() if p == part}
    pairs = [(key, (places.get(key[0], -1), key[1])) for key in mine]
    if any(match not in other for _, match in pairs):
        return False
    if len(pairs) != sum(index in places.values() for index, _ in other):
        return False
    return all(_begin_alike(mine[key], other[match]) for key, match in pairs)


def _begin_alike(ours: TensorEntry, theirs: TensorEntry) -> bool:
    return ours.shape == theirs.shape and bool((_start(ours) == _start(theirs)).all())


def _start(entry: TensorEntry) -> Any:
    from safetensors import safe_open

    with safe_open(entry.file, "pt") as file:
        return file.get_slice(entry.name)[: 2 if len(entry.shape) > 1 else 64].float()


def _tower(folder: Path, shapes: Mapping[str, Shape], config: Mapping[str, Any]) -> Tower:
    if not shapes:  # text alone
        return Tower(width=0, inner=0, blocks=0, heads=1, patch=1, merged=1, gated=False)
    width, *patch = _shape(folder, shapes, "patch_embed.proj.weight")
    gated = "blocks.0.mlp.gate_proj.weight" in shapes
    first = "blocks.0.mlp.gate_proj.weight" if gated else "blocks.0.mlp.fc1.weight"
    qwen3 = "merger.linear_fc1.weight" in shapes
    first = "blocks.0.mlp.linear_fc1.weight" if qwen3 else first
    merger = "merger.linear_fc1.weight" if qwen3 else "merger.mlp.0.weight"
    inner = _shape(folder, shapes, first)[0]
    return Tower(
        width=width,
        inner=inner,
        blocks=len({name.split(".")[1] for name in shapes if name.startswith("blocks.")}),
        heads=int(config.get("num_heads") or 1),
        patch=math.prod(patch),
        merged=_shape(folder, shapes, merger)[1] // width,
        gated=gated,
    )


def _shape(folder: Path, shapes: Mapping[str, Shape], end: str) -> Shape:
    for name, shape in shapes.items():
        if name.endswith(end):
            return shape
    raise CheckpointError(
        f"{folder} has no weight {end}, so it is no model that puma embeds with.",
        hint=f"This version reads the architectures {', '.join(sorted(EMBEDS))}.",
    )
