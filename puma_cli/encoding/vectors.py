"""Vectors by row, wherever they are: in memory, or mapped from files on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Vectors(Protocol):
    """N vectors of D numbers, read by row; they need not fit in memory."""

    def __len__(self) -> int:
        """Return the number N of vectors."""
        ...

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        ...

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop`, in their own float format (n, D).

        They may be mapped from a file, so are not to be written to.
        """
        ...

    def take(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return the rows at `indices`, in that order, as a copy in their own float format (n, D).

        Args:
            indices: places from 0 to N - 1; one may come more than once.
        """
        ...


class InMemory:
    """Vectors that are held in memory.

    Args:
        tensor: (N, D) on the CPU.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self.tensor.shape[1])

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop` (n, D)."""
        return self.tensor[start:stop]

    def take(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return the rows at `indices`, in that order (n, D)."""
        return self.tensor[torch.as_tensor(indices, dtype=torch.long)]


class Chosen:
    """Some rows of other vectors, in an order of their own, such as one pool of a whole.

    Args:
        vectors: what they are chosen from.
        places: the row there of each row here (N).
    """

    def __init__(self, vectors: Vectors, places: Sequence[int] | Tensor) -> None:
        self._vectors = vectors
        self._places = torch.as_tensor(places, dtype=torch.long)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self._vectors.dimension

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop` (n, D)."""
        return self._vectors.take(self._places[start:stop])

    def take(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return the rows at `indices`, in that order (n, D)."""
        return self._vectors.take(self._places[torch.as_tensor(indices, dtype=torch.long)])
