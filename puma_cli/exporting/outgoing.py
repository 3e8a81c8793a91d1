"""What is exported: everything of a model but its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.layout import CONFIG
from puma_cli.checkpoint.provenance import Parent
from puma_cli.config.settings import ExportSettings
from puma_cli.errors import ConfigError
from puma_cli.models.embedder_settings import EOS, EmbedderSettings, decoder_width, settings_for
from puma_cli.models.head import Head, read_head
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.processors import check_processors


@dataclass(frozen=True)
class Outgoing:
    """A model on its way out.

    Args:
        folder: where it lies.
        settings: how it embeds there, its head named as an export names it.
        width: length D of the decoder's states.
        head: what maps these to embeddings, already as short as was asked for.
        images: whether it has a vision tower.
        prompts: instructions by name.
        parent: the model as the user named it.
    """

    folder: Path
    settings: EmbedderSettings
    width: int
    head: Head | None
    images: bool
    prompts: Mapping[str, str]
    parent: Parent


def open_outgoing(settings: ExportSettings, prompts: Mapping[str, str], folder: Path) -> Outgoing:
    """Read everything of a model but its weights.

    Raises:
        CheckpointError: the model is broken.
        ConfigError: more dimensions than it has were asked for, or it is read in mid-prompt.
    """
    embedder = settings_for(folder)
    check_processors(folder, embedder)
    _check_pooling(embedder)
    if embedder.query_instruction is not None:
        prompts = {"query": embedder.query_instruction, **prompts}
    config = read_object(folder / CONFIG)
    width = decoder_width(config)
    head = None
    if embedder.head is not None:
        head = read_head(folder, embedder.head, width, embedder.dimension)
    if settings.dimensions is not None:
        if settings.dimensions > embedder.dimension:
            raise ConfigError(
                f"{settings.dimensions} dimensions were asked for, and the embeddings have "
                f"{embedder.dimension}.",
                hint="Ask for fewer, or leave --dimensions out.",
            )
        head = shortened(head, width, settings.dimensions)
    embedder = replace(
        embedder,
        head=None if head is None else BRIDGE,
        dimension=width if head is None else head.outputs,
    )
    return Outgoing(
        folder,
        embedder,
        width,
        head,
        "vision_config" in config,
        prompts,
        Parent("model", settings.model, identify(folder, settings.full_hash)),
    )


def _check_pooling(embedder: EmbedderSettings) -> None:
    if embedder.pooling == EOS and not embedder.template.endswith(embedder.embed_token):
        raise ConfigError(
            f"The model is read at the last {embedder.embed_token}, and its prompts go on.",
            cause="No other loader reads in the middle of a prompt.",
            hint="Write a template that ends there into its embedder.json.",
        )


def shortened(head: Head | None, width: int, dimensions: int) -> Head:
    """Return the head that gives the first components of what `head`, or the model, gives.

    Args:
        head: maps states (..., D) to embeddings, or None where these are the same.
        width: D.
        dimensions: how many components.
    """
    weight = torch.eye(width) if head is None else head.weight
    bias = torch.zeros(width) if head is None else head.bias
    return Head(weight[:, :dimensions], bias[:dimensions])


def parse_prompts(given: tuple[str, ...]) -> dict[str, str]:
    """Return prompts by name, from `NAME=TEXT`.

    Raises:
        ConfigError: one has no name.
    """
    found = {}
    for each in given:
        name, sign, text = each.partition("=")
        if not sign or not name.strip():
            raise ConfigError(
                f"The prompt {each!r} has no name.",
                hint="Write NAME=TEXT, such as query='Find a picture of this.'",
            )
        found[name.strip()] = text
    return found
