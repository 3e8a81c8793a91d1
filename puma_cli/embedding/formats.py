"""The files of a shard: its vectors, and its rows beside them or in the same file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy
from torch import Tensor

from puma_cli.embedding.number_format import Encoded
from puma_cli.embedding.row_file import COLUMNS, to_columns, to_rows
from puma_cli.embedding.rows import Row

NPY, SAFETENSORS, PARQUET, LANCEDB = "npy", "safetensors", "parquet", "lancedb"
VECTOR, VECTORS, SCALE, SCALES = "vector", "vectors", "scale", "scales"
# Rows of a parquet group: what is read to show one result, or to search some.
_GROUP = 1_024

Parts = Sequence[bytes | memoryview]


def file_names(stem: str, form: str, scaled: bool) -> list[str]:
    """Return the names of a shard's files: first that of its vectors, last that of its rows."""
    if form == PARQUET:
        return [f"{stem}.parquet"]
    scales = [f"{stem}.{SCALES}.npy"] if scaled and form == NPY else []
    return [f"{stem}.{form}", *scales, f"{stem}.rows.parquet"]


def file_contents(vectors: Encoded, rows: Sequence[Row], form: str) -> Iterator[Parts]:
    """Yield the bytes of each file of a shard, in the order of `file_names`."""
    columns = to_columns(rows)
    if form == PARQUET:
        if vectors.scales is not None:
            columns[SCALE] = pa.array(vectors.scales.numpy())
        yield _parquet(columns | {VECTOR: as_lists(vectors.numbers)})
        return
    if form == NPY:
        yield _npy(vectors.numbers)
        if vectors.scales is not None:
            yield _npy(vectors.scales)
    else:
        from safetensors.torch import save

        tensors = {VECTORS: vectors.numbers.contiguous()}
        if vectors.scales is not None:
            tensors[SCALES] = vectors.scales
        yield [save(tensors)]
    yield _parquet(columns)


def as_lists(numbers: Tensor) -> pa.Array:
    """Return vectors (N, D) as an Arrow column of lists of D numbers."""
    flat = pa.array(numbers.contiguous().numpy().reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, numbers.shape[1])


class RowReader:
    """The rows of one shard, a group of them in memory at a time."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, memory_map=True)
        counts = [
            self._file.metadata.row_group(n).num_rows
            for n in range(self._file.metadata.num_row_groups)
        ]
        self._ends = np.cumsum(counts)

    def row(self, place: int) -> Row:
        """Return the row at a place."""
        group = int(np.searchsorted(self._ends, place, side="right"))
        begin = int(self._ends[group - 1]) if group else 0
        table = self._file.read_row_group(group, columns=list(COLUMNS))
        return to_rows(table.slice(place - begin, 1).to_pylist())[0]


def _npy(numbers: Tensor) -> Parts:
    array = np.ascontiguousarray(numbers.numpy())
    header = io.BytesIO()
    npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(array))
    # Not by np.save, whose error says nothing of a full disk.
    return [header.getvalue(), array.reshape(-1).view(np.uint8).data]


def _parquet(columns: dict[str, pa.Array]) -> Parts:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, row_group_size=_GROUP, compression="zstd")
    return [memoryview(sink.getvalue())]
