"""The vectors of an index's shards as one table, whatever their files' format."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from puma_cli.embedding.formats import (
    NPY,
    PARQUET,
    SCALE,
    SCALES,
    VECTOR,
    VECTORS,
    RowReader,
)
from puma_cli.embedding.index_file import IndexDescription
from puma_cli.embedding.number_format import FLOAT16, INT8, decoded
from puma_cli.embedding.rows import Row
from puma_cli.embedding.shards import FOLDER, REMEDY, ShardRecord
from puma_cli.encoding.mapped import open_npy
from puma_cli.errors import DataError

# Shards that are mapped at a time: a process may have only so many maps.
_OPEN = 512


class _Shard(Protocol):
    def rows(self, start: int, stop: int) -> Tensor: ...


class StoredVectors:
    """The vectors of an index, mapped from its files and read when used.

    Args:
        folder: the index.
        description: what it is.
        records: its shards, in order.
    """

    def __init__(
        self, folder: Path, description: IndexDescription, records: Sequence[ShardRecord]
    ) -> None:
        self._folder, self._about = folder, description
        self._records = [record for record in records if record.rows]
        self._ends = list(accumulate(record.rows for record in self._records))
        self._shard = lru_cache(_OPEN)(self._open)
        self._reader = lru_cache(_OPEN)(self._open_rows)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self._about.dimensions

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the vectors from `start` to before `stop` (n, D)."""
        start, stop = max(0, start), min(stop, len(self))
        pieces = []
        while start < stop:
            number, begin = self._place(start)
            end = min(stop, self._ends[number])
            pieces.append(self._shard(number).rows(start - begin, end - begin))
            start = end
        if not pieces:
            return torch.empty(0, self.dimension)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def take(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return the vectors at `indices`, in that order, as a copy (n, D)."""
        places = torch.as_tensor(indices, dtype=torch.long).tolist()
        dtype = torch.float16 if self._about.store_dtype == FLOAT16 else torch.float32
        found = torch.empty(len(places), self.dimension, dtype=dtype)
        for at, place in enumerate(places):
            found[at] = self.rows(place, place + 1)[0]
        return found

    def row(self, place: int) -> Row:
        """Return what the vector at a place was made from."""
        number, begin = self._place(place)
        try:
            return self._reader(number).row(place - begin)
        except (OSError, ValueError, IndexError, KeyError, pa.ArrowException) as error:
            raise self._damaged(self._path(number, -1), error) from error

    def _place(self, place: int) -> tuple[int, int]:
        """Return which shard holds a place, and the place of the shard's first vector."""
        number = bisect_right(self._ends, place)
        return number, self._ends[number] - self._records[number].rows

    def _path(self, number: int, file: int) -> Path:
        return self._folder / FOLDER / self._records[number].files[file].name

    def _open_rows(self, number: int) -> RowReader:
        return RowReader(self._path(number, -1))

    def _open(self, number: int) -> _Shard:
        path = self._path(number, 0)
        scaled, form = self._about.store_dtype == INT8, self._about.format
        scales: Tensor | None = None
        try:
            if form == PARQUET:
                return _ParquetShard(path, scaled)
            if form == NPY:
                numbers = open_npy(path)
                scales = open_npy(self._path(number, 1)) if scaled else None
            else:
                with safe_open(path, "pt") as file:
                    numbers = file.get_tensor(VECTORS)
                    scales = file.get_tensor(SCALES) if scaled else None
        except (OSError, ValueError, SafetensorError, pa.ArrowException) as error:
            raise self._damaged(path, error) from error
        if tuple(numbers.shape) != (self._records[number].rows, self.dimension):
            raise self._damaged(path, ValueError(f"it holds {tuple(numbers.shape)} numbers"))
        return _MappedShard(numbers, scales)

    def _damaged(self, path: Path, error: Exception) -> DataError:
        return DataError(
            f"The index's file `{path}` is damaged.", cause=str(error).splitlines()[0], hint=REMEDY
        )


class _MappedShard:
    """Vectors that are mapped from a file."""

    def __init__(self, numbers: Tensor, scales: Tensor | None) -> None:
        self._numbers, self._scales = numbers, scales

    def rows(self, start: int, stop: int) -> Tensor:
        scales = None if self._scales is None else self._scales[start:stop]
        return decoded(self._numbers[start:stop], scales)


class _ParquetShard:
    """Vectors of a parquet file, of which the group that was last read stays in memory."""

    def __init__(self, path: Path, scaled: bool) -> None:
        self._file = pq.ParquetFile(path, memory_map=True)
        self._columns = [VECTOR, *([SCALE] if scaled else [])]
        about = self._file.metadata
        counts = [about.row_group(n).num_rows for n in range(about.num_row_groups)]
        self._ends = list(accumulate(counts))
        self._group = lru_cache(1)(self._read)

    def rows(self, start: int, stop: int) -> Tensor:
        pieces = []
        while start < stop:
            group = bisect_right(self._ends, start)
            begin = self._ends[group - 1] if group else 0
            end = min(stop, self._ends[group])
            pieces.append(self._group(group)[start - begin : end - begin])
            start = end
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _read(self, group: int) -> Tensor:
        table = self._file.read_row_group(group, columns=self._columns)
        column = table.column(VECTOR).combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        numbers = torch.from_numpy(np.array(flat)).view(len(column), -1)
        if SCALE not in self._columns:
            return numbers
        return decoded(numbers, torch.from_numpy(np.array(table.column(SCALE).to_numpy())))
