"""Embedding the two sides of a benchmark, every distinct input once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from puma_cli.encoding.finite import check_finite
from puma_cli.encoding.out_of_memory import out_of_memory_explained
from puma_cli.encoding.vectors import InMemory, Vectors
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import SILENT, Reporter


class Encoder(Protocol):
    """What evaluation needs of an embedder."""

    @property
    def model(self) -> Any:
        """The torch module behind it, or None while it is not open."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def encode(
        self,
        inputs: Sequence[Input],
        batch_size: int = 128,
        reporter: Reporter = SILENT,
        label: str = "encode",
    ) -> Tensor | Vectors:
        """Return L2-normalised embeddings in the order of `inputs`, on the CPU (N, D)."""
        ...


@dataclass(frozen=True)
class Together:
    """An embedder whose inputs several processes share; each gets all embeddings."""

    embedder: Embedder
    processes: Processes

    @property
    def model(self) -> Any:
        """The torch module behind it."""
        return self.embedder.model

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.embedder.device

    def encode(
        self,
        inputs: Sequence[Input],
        batch_size: int = 128,
        reporter: Reporter = SILENT,
        label: str = "encode",
    ) -> Tensor:
        """Return L2-normalised embeddings in the order of `inputs`, fp32 on the CPU (N, D)."""
        return self.embedder.encode(inputs, batch_size, reporter, label, self.processes)


def encode_groups(
    embedder: Encoder,
    groups: Sequence[Sequence[Input]],
    *,
    batch_size: int = 128,
    reporter: Reporter = SILENT,
    label: str = "encode",
) -> tuple[Vectors, list[Tensor]]:
    """Embed several lists of inputs that overlap; equal inputs are embedded once.

    Args:
        groups: lists of inputs, such as the candidate pools of several tasks.

    Returns:
        the distinct embeddings (U, D), and for each group the row of each of its inputs in them.
    """
    rows: dict[Input, int] = {}
    places = [
        torch.tensor([rows.setdefault(entry, len(rows)) for entry in group], dtype=torch.long)
        for group in groups
    ]
    with out_of_memory_explained(batch_size):
        found = embedder.encode(list(rows), batch_size, reporter, label)
    return InMemory(found) if isinstance(found, Tensor) else found, places


def stream(
    embedder: Embedder,
    inputs: Sequence[Input],
    *,
    batch_size: int = 128,
    reporter: Reporter = SILENT,
    label: str = "encode",
    processes: Processes = ALONE,
) -> Iterator[tuple[list[int], Tensor]]:
    """Embed inputs without holding more than a batch of them; of several processes, a share.

    Yields:
        the places of some inputs and their L2-normalised embeddings, fp32 on the model's device
        (B, D).

    Raises:
        NumericError: an embedding is not finite.
    """
    with evaluation_mode(embedder.model), out_of_memory_explained(batch_size):
        for places, batch in embedder.batches(inputs, batch_size, reporter, label, processes):
            vectors = normalize(embedder.embed(batch).float(), dim=-1)
            check_finite(label, vectors)
            yield places, vectors
