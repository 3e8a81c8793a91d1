"""What is to know about a tiny model before it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Form = Callable[[dict[str, Any], dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]


@dataclass(frozen=True)
class ZooModel:
    """A tiny model of one architecture.

    Args:
        generation: transformers class with an LM head, which published checkpoints name.
        config: from a depth to the fields of the class's config.
        decoder: what precedes a decoder layer's index on disk, with the head and without it.
        tied: whether the LM head shares the token embeddings.
        form: how the files differ from what transformers writes: a function of the raw config and
            the tensors that returns both.
        base_only: this checkpoint is always of the base class, which has no LM head.
    """

    generation: str
    config: Callable[[int], dict[str, Any]]
    decoder: tuple[str, str]
    tied: bool = False
    form: Form | None = None
    base_only: bool = False
