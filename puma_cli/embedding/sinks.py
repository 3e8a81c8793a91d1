"""Where shards go: files of their own, or a table of LanceDB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from puma_cli.embedding.formats import LANCEDB
from puma_cli.embedding.rows import Row
from puma_cli.embedding.shards import FileRecord, ShardRecord, check_files, write_files
from puma_cli.errors import DataError


class Sink(Protocol):
    """Takes the vectors of shards; a shard that is written twice is there once."""

    def write(self, number: int, vectors: Tensor, rows: Sequence[Row]) -> tuple[FileRecord, ...]:
        """Write the vectors of a shard, fp32 (N, D); return its files.

        Raises:
            OutputError: the disk is full or refuses.
        """
        ...

    def holds(self, record: ShardRecord) -> bool:
        """Tell whether a shard is there as it was written."""
        ...

    def finish(self) -> None:
        """Tidy up after the last shard."""
        ...


class FileSink:
    """Files below the index's folder.

    Args:
        folder: the index.
        form: `npy`, `safetensors` or `parquet`.
        store_dtype: number format of the vectors.
    """

    def __init__(self, folder: Path, form: str, store_dtype: str) -> None:
        self._folder, self._form, self._store_dtype = folder, form, store_dtype

    def write(self, number: int, vectors: Tensor, rows: Sequence[Row]) -> tuple[FileRecord, ...]:
        """Write a shard's files, each whole or not at all."""
        return write_files(self._folder, number, vectors, rows, self._form, self._store_dtype)

    def holds(self, record: ShardRecord) -> bool:
        """Compare a shard's files with their checksums."""
        try:
            check_files(self._folder, record, checksums=True)
        except DataError:
            return False
        return True

    def finish(self) -> None:
        """Files need no tidying."""


def open_sink(folder: Path, form: str, store_dtype: str, dimensions: int) -> Sink:
    """Return where the shards of an index go.

    Raises:
        ConfigError: the database is not installed.
    """
    if form != LANCEDB:
        return FileSink(folder, form, store_dtype)
    from puma_cli.embedding.lance_table import LanceSink

    return LanceSink(folder, store_dtype, dimensions)
