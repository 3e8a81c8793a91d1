"""What the first pass over a batch's chunks leaves for the second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from puma_cli.distillation.random_state import RandomState
from puma_cli.models.embedder import Embedder
from puma_cli.models.splitting import Part

# Features of images that wait for the second pass in the memory of the CPU: a frozen tower then
# sees an image once a step, and its file is read once. What is beyond is computed again.
VISION_BYTES = 4 << 30


@dataclass(frozen=True)
class _Chunk:
    """A chunk's rows and random state; its tensors without pixels, unless these are needed."""

    rows: Tensor
    state: RandomState
    part: Part | None
    vision: Any


class Kept:
    """The chunks of one step, in their order.

    Args:
        limit: most bytes of images' features; with 0, images are read and seen again.
        device: where the features come back to.
        embedder: the model whose features they are.
    """

    def __init__(self, limit: int, device: torch.device, embedder: Embedder) -> None:
        self._room, self._device, self._embedder = limit, device, embedder
        self._chunks: list[_Chunk] = []

    def add(self, part: Part, state: RandomState, vision: Any) -> None:
        """Keep a chunk, the random state before it, and what was seen of its images."""
        held: Part | None = part
        if part.batch.pixel_values is not None:
            held = None
            size = sum(rows.nbytes for rows in self._embedder.family.rows(vision))
            if size <= self._room:
                self._room -= size
                held = replace(part, batch=replace(part.batch, pixel_values=None))
        seen = None if held is None or vision is None else self._moved(vision, torch.device("cpu"))
        self._chunks.append(_Chunk(part.rows, state, held, seen))

    def again(
        self, read: Callable[[Sequence[Sequence[int]]], Iterator[Part]]
    ) -> Iterator[tuple[Part, RandomState, Any]]:
        """Yield every chunk with its random state and its images' features, None if not kept.

        Args:
            read: yields chunks by the places of their inputs, for those that were not kept.
        """
        missing = read([chunk.rows.tolist() for chunk in self._chunks if chunk.part is None])
        for chunk in self._chunks:
            part = next(missing) if chunk.part is None else chunk.part
            vision = None if chunk.vision is None else self._moved(chunk.vision, self._device)
            yield part, chunk.state, vision

    def _moved(self, vision: Any, device: torch.device) -> Any:
        family = self._embedder.family
        rows = [rows.to(device) for rows in family.rows(vision)]
        return family.of_rows(rows, self._embedder.width)
