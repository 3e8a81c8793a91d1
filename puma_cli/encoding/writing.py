"""Gathering computed rows until they are worth a file."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from puma_cli.encoding.identity import Keys
from puma_cli.encoding.store import VectorStore

# A file's rows at most, its bytes about, and its age: so much is lost to a kill at worst.
ROWS, BYTES, SECONDS = 4_096, 64 << 20, 30.0


class Writer:
    """Writes the rows of whole batches to a store, file by file.

    Args:
        store: where they go.
        rows: rows of a file (>= 1), but for those that complete a batch.
        seconds: how long rows wait for others (>= 0).
    """

    def __init__(self, store: VectorStore, rows: int = ROWS, seconds: float = SECONDS) -> None:
        self._store, self._rows, self._seconds = store, rows, seconds
        self._keys: list[Keys] = []
        self._vectors: list[Tensor] = []
        self._since = 0.0

    def add(self, keys: Keys, vectors: Tensor) -> bool:
        """Take a batch's rows (B, D) on the CPU; return whether they are all on disk now.

        Raises:
            OutputError: the disk is full or refuses.
        """
        if not self._keys:
            self._since = time.monotonic()
        self._keys.append(keys)
        self._vectors.append(vectors.to(self._store.dtype))
        rows = sum(map(len, self._keys))
        size = sum(part.nbytes for part in self._vectors)
        late = time.monotonic() - self._since >= self._seconds
        if rows < self._rows and size < BYTES and not late:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Write what is held.

        Raises:
            OutputError: the disk is full or refuses.
        """
        if self._keys:
            keys, vectors = np.concatenate(self._keys), torch.cat(self._vectors)
            self._keys, self._vectors = [], []
            self._store.write(keys, vectors)
