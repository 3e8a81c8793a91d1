"""A mining's way through its model: some vectors are held, all others come in blocks and go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from puma_cli.evaluation.encode import stream
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.processes import Processes
from puma_cli.progress import Reporter

BLOCK = 8_192
"""Candidates that are scored at a time."""

# What is held is exact up to this many bytes, and rounded to fp16 beyond.
_EXACT_BYTES = 2 << 30

Block = tuple[list[int], Tensor]
"""Which of some inputs, ascending, and their unit vectors on the model's device (B, D)."""


@dataclass(frozen=True)
class Passes:
    """The passes of one mining; of several processes, each embeds a share of every one."""

    embedder: Embedder
    batch_size: int
    reporter: Reporter
    processes: Processes

    def hold(self, inputs: Sequence[Input], label: str) -> Tensor:
        """Return the unit vectors of all inputs, on the CPU (N, D).

        Raises:
            NumericError: one is not finite.
        """
        size = len(inputs) * self.embedder.dimension * 4
        dtype = torch.float32 if size <= _EXACT_BYTES else torch.float16
        out = torch.zeros(len(inputs), self.embedder.dimension, dtype=dtype)
        for places, vectors in self._batches(inputs, label):
            out[places] = vectors.to("cpu", dtype)
        for part in out.split(BLOCK):
            # Each process has filled in the rows that it read.
            self.processes.total(part)
        return out

    def held_blocks(self, held: Tensor) -> Iterator[Block]:
        """Yield this process's share of what is held, block by block."""
        for start in self.processes.share(range(0, len(held), BLOCK)):
            part = held[start : start + BLOCK]
            yield list(range(start, start + len(part))), part.to(self.embedder.device).float()

    def blocks(self, inputs: Sequence[Input], label: str) -> Iterator[Block]:
        """Embed this process's share of the inputs and yield it block by block.

        Raises:
            NumericError: a vector is not finite.
        """
        return _gathered(self._batches(inputs, label))

    def _batches(self, inputs: Sequence[Input], label: str) -> Iterator[Block]:
        return stream(
            self.embedder,
            inputs,
            batch_size=self.batch_size,
            reporter=self.reporter,
            label=label,
            processes=self.processes,
        )


def _gathered(batches: Iterable[Block]) -> Iterator[Block]:
    """Put batches together to blocks that are worth a search, in ascending order."""
    places: list[int] = []
    parts: list[Tensor] = []
    for chosen, vectors in batches:
        places += chosen
        parts.append(vectors)
        if len(places) >= BLOCK:
            yield _ascending(places, torch.cat(parts))
            places, parts = [], []
    if places:
        yield _ascending(places, torch.cat(parts))


def _ascending(places: list[int], vectors: Tensor) -> Block:
    order = sorted(range(len(places)), key=places.__getitem__)
    return [places[at] for at in order], vectors[order]
