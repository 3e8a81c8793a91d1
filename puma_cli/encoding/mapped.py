"""Vectors in files, mapped rather than read: one table over the rows of all of them."""

from __future__ import annotations

import json
import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puma_cli.errors import DataError

_SAFETENSORS = {"F16": np.float16, "F32": np.float32, "BF16": np.int16}


class Mapped:
    """The rows of `.npy` and `.safetensors` files in order, whose pages are read when used.

    Args:
        paths: files that hold one matrix (n, D) each, all of one width and float format.

    Raises:
        DataError: a file is missing or broken, holds no such matrix, or differs from the others.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise DataError("No files of vectors are named.")
        self._parts = [_open(path) for path in paths]
        width, kind = self._parts[0].shape[1], self._parts[0].dtype
        for path, part in zip(paths, self._parts, strict=True):
            if (part.shape[1], part.dtype) != (width, kind):
                raise DataError(
                    f"`{path}` holds {part.shape[1]} numbers of {part.dtype} a row.",
                    cause=f"The first file holds {width} of {kind}.",
                )
        self._ends = list(accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self._parts[0].shape[1])

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop`, mapped where one file has them (n, D)."""
        start, stop = max(0, start), min(stop, len(self))
        pieces = []
        while start < stop:
            part = bisect_right(self._ends, start)
            begin = self._ends[part] - len(self._parts[part])
            end = min(stop, self._ends[part])
            pieces.append(self._parts[part][start - begin : end - begin])
            start = end
        if not pieces:
            return self._parts[0][:0]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def take(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return the rows at `indices`, in that order, as a copy (n, D)."""
        places = torch.as_tensor(indices, dtype=torch.long)
        if len(self._parts) == 1:
            return self._parts[0][places]
        found = torch.empty(len(places), self.dimension, dtype=self._parts[0].dtype)
        part = torch.searchsorted(torch.tensor(self._ends), places, right=True)
        for number in part.unique().tolist():
            mine = part == number
            begin = self._ends[number] - len(self._parts[number])
            found[mine] = self._parts[number][places[mine] - begin]
        return found


def _open(path: Path) -> Tensor:
    try:
        table = _open_safetensors(path) if path.suffix == ".safetensors" else open_npy(path)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise DataError(
            f"`{path}` holds no vectors that can be mapped.", cause=str(error)
        ) from error
    if table.ndim != 2 or not table.is_floating_point():
        raise DataError(
            f"`{path}` holds numbers of {table.dtype} in {table.ndim} dimensions, not vectors."
        )
    return table


def open_npy(path: Path) -> Tensor:
    """Return the array of a `.npy` file, mapped."""
    # Copy on write: torch asks for memory it may write to, and nothing here does.
    found: NDArray[np.generic] = np.load(path, mmap_mode="c", allow_pickle=False)
    return torch.from_numpy(found)


def _open_safetensors(path: Path) -> Tensor:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    ((_, entry),) = [item for item in header.items() if item[0] != "__metadata__"]
    kind, shape = _SAFETENSORS[entry["dtype"]], tuple(entry["shape"])
    start = 8 + length + entry["data_offsets"][0]
    found = torch.from_numpy(np.memmap(path, dtype=kind, mode="c", offset=start, shape=shape))
    return found.view(torch.bfloat16) if entry["dtype"] == "BF16" else found
