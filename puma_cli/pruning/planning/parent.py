"""What is read of a checkpoint before it is cut: its config, its headers, its decoder's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.decoder_keys import Decoder, find_decoder
from puma_cli.checkpoint.model_facts import read_config
from puma_cli.checkpoint.safetensors_header import TensorEntry, checkpoint_headers
from puma_cli.errors import CheckpointError
from puma_cli.pruning.planning.decoder_section import (
    DecoderSection,
    check_architecture,
    find_section,
)
from puma_cli.pruning.planning.families import WIDE_INPUTS


@dataclass(frozen=True)
class Parent:
    """A checkpoint that may be cut.

    Args:
        config: its raw config.
        tensors: its tensors' headers by name.
        decoder: where its decoder's layers lie, further ones included.
        section: where the config describes them.
    """

    config: dict[str, Any]
    tensors: Mapping[str, TensorEntry]
    decoder: Decoder
    section: DecoderSection

    @property
    def depth(self) -> int:
        """Number of decoder layers L; further ones in the weights predict further tokens."""
        return self.section.depth


def read_parent(folder: Path, tensors: Mapping[str, TensorEntry] | None = None) -> Parent:
    """Return what a cut must know of a checkpoint.

    Args:
        tensors: its headers, if they are known already.

    Raises:
        CheckpointError: it is broken, its config contradicts its weights, or it cannot be cut.
    """
    config = read_config(folder)
    check_architecture(config, folder.name)
    if tensors is None:
        tensors = checkpoint_headers(folder)
    decoder = find_decoder(tensors)
    for name in tensors:
        if decoder.layer_of(name) is None and "per_layer_" in name:
            raise CheckpointError(
                f"`{folder.name}` cannot be cut safely.",
                cause=f"{WIDE_INPUTS[0].upper()}{WIDE_INPUTS[1:]}: `{name}`.",
            )
    section = find_section(config, decoder.depth, folder.name)
    return Parent(config, tensors, decoder, section)
