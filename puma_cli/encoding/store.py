"""Vectors on disk, found by the content of what they were made from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puma_cli.checkpoint.output_folder import explained_writes, write_json
from puma_cli.encoding.cache_folder import ABOUT
from puma_cli.encoding.identity import KEY_BYTES, Keys
from puma_cli.encoding.shards import read_shard, remove_abandoned, shard_files, write_shard

_EMPTY: Keys = np.empty(0, dtype=f"S{KEY_BYTES}")


class Index:
    """Where the row of each key is: a file's number and a place in it."""

    def __init__(self) -> None:
        self._keys = _EMPTY
        self._places: NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Keys, file: int) -> None:
        """Note the rows of a file; a key that is known stays where it was."""
        keys, rows = np.unique(keys, return_index=True)
        new = ~self.has(keys)
        keys, rows = keys[new], rows[new]
        where = np.searchsorted(self._keys, keys)
        self._keys = np.insert(self._keys, where, keys)
        places = np.stack([np.full(len(rows), file), rows], axis=1)
        self._places = np.insert(self._places, where, places, axis=0)

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Tell which keys are known (N,)."""
        if not len(self._keys):
            return np.zeros(len(keys), dtype=bool)
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.asarray(self._keys[found] == keys)

    def places(self, keys: Keys) -> NDArray[np.int64]:
        """Return the file and the row of each key, all of which are known (N, 2)."""
        return self._places[np.searchsorted(self._keys, keys)]


class VectorStore:
    """A folder of vectors by key; several processes may fill it at a time.

    Args:
        folder: made when the first rows are written.
        about: what it holds, written beside the rows for people.
        dtype: float format of the files.
    """

    def __init__(
        self, folder: Path, about: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        self.folder, self.dtype = folder, dtype
        self._about = about
        self._index = Index()
        self._shards: dict[Path, int] = {}
        self._vectors: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._index)

    @property
    def files(self) -> int:
        """How many files were read or written."""
        return len(self._vectors)

    def paths(self) -> list[Path]:
        """Return the files that the folder holds now."""
        return shard_files(self.folder)

    def open(self, files: Sequence[Path]) -> None:
        """Take in the rows of some files; what was seen before is not read again."""
        for path in files:
            if path not in self._shards:
                self._take(path)

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Tell which keys have a vector (N,)."""
        return self._index.has(keys)

    def write(self, keys: Keys, vectors: Tensor) -> None:
        """Write rows (N, D) as a file of their own, with the next `N` keys.

        Raises:
            OutputError: the disk is full or refuses.
        """
        if not (self.folder / ABOUT).exists():
            with explained_writes(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                remove_abandoned(self.folder)
                if self._about is not None:
                    write_json(self.folder / ABOUT, self._about)
        self._take(write_shard(self.folder, keys, vectors.to("cpu", self.dtype)))

    def vectors(self, keys: Keys) -> StoredVectors:
        """Return the vectors of keys that all have one (N, D)."""
        assert self.has(keys).all()
        return StoredVectors(self._vectors, self._index.places(keys))

    def used(self) -> None:
        """Note that the store is in use now, for `puma cache clear --older-than`."""
        try:
            os.utime(self.folder)
        except OSError:
            return

    def _take(self, path: Path) -> None:
        shard = read_shard(path)
        if shard is None:
            return
        self._shards[path] = len(self._vectors)
        self._index.add(shard.keys, len(self._vectors))
        self._vectors.append(shard.vectors)


class StoredVectors:
    """Rows of a store in an order of their own, mapped from its files.

    Args:
        files: the vectors in each file (n, D).
        places: file and row of each vector (N, 2).
    """

    def __init__(self, files: Sequence[Tensor], places: NDArray[np.int64]) -> None:
        self._files, self._places = files, places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def dimension(self) -> int:
        """Length D of a vector; 0 without any."""
        return int(self._files[0].shape[1]) if self._files else 0

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop` (n, D)."""
        return self._gathered(self._places[start:stop])

    def take(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return the rows at `indices`, in that order (n, D)."""
        return self._gathered(self._places[np.asarray(indices, dtype=np.int64)])

    def _gathered(self, places: NDArray[np.int64]) -> Tensor:
        dtype = self._files[0].dtype if self._files else torch.float32
        out = torch.empty(len(places), self.dimension, dtype=dtype)
        for file in np.unique(places[:, 0]).tolist():
            mine = np.flatnonzero(places[:, 0] == file)
            out[torch.from_numpy(mine)] = self._files[file][torch.from_numpy(places[mine, 1])]
        return out
