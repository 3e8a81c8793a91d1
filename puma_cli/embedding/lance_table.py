"""Vectors in a table of LanceDB, an embedded vector database: `pip install 'puma-cli[lancedb]'`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from torch import Tensor

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.embedding.formats import VECTOR, as_lists
from puma_cli.embedding.number_format import FLOAT16, INT8, encoded
from puma_cli.embedding.row_file import COLUMNS, to_columns
from puma_cli.embedding.rows import Row
from puma_cli.embedding.shards import FileRecord, ShardRecord
from puma_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = "vectors"
SHARD = "shard"


class LanceSink:
    """A table of the columns of rows, `vector`, and the number of the `shard`.

    Args:
        folder: the index; it becomes a database.
        store_dtype: `float32` or `float16`.
        dimensions: length of the vectors.

    Raises:
        ConfigError: LanceDB is not installed, or knows no such number format.
    """

    def __init__(self, folder: Path, store_dtype: str, dimensions: int) -> None:
        if store_dtype == INT8:
            raise ConfigError(
                "store_dtype = int8 is not possible with format = lancedb.",
                cause="LanceDB has no scale for a vector of its own.",
                hint="Take float16; its own index is as small.",
            )
        lancedb = import_lancedb()
        self._folder, self._store_dtype = folder, store_dtype
        number = pa.float16() if store_dtype == FLOAT16 else pa.float32()
        schema = pa.schema(
            [
                *(pa.field(name, pa.large_string()) for name in COLUMNS),
                pa.field(SHARD, pa.int64()),
                pa.field(VECTOR, pa.list_(number, dimensions)),
            ]
        )
        with _explained(folder):
            self._table = lancedb.connect(str(folder)).create_table(
                TABLE, schema=schema, exist_ok=True
            )
        self._counts: Counter[int] | None = None

    def write(self, number: int, vectors: Tensor, rows: Sequence[Row]) -> tuple[FileRecord, ...]:
        """Add a shard's rows, in one version of the table."""
        columns = to_columns(rows)
        columns[SHARD] = pa.array([number] * len(rows), pa.int64())
        columns[VECTOR] = as_lists(encoded(vectors, self._store_dtype).numbers)
        with _explained(self._folder):
            # What a run that was killed before it could say so has added.
            if self._present()[number]:
                self._table.delete(f"{SHARD} = {number}")
            if rows:
                self._table.add(pa.table(columns))
            self._present()[number] = len(rows)
        return ()

    def holds(self, record: ShardRecord) -> bool:
        """Tell whether the table has as many rows of a shard as were written."""
        return self._present()[record.number] == record.rows

    def finish(self) -> None:
        """Join the many small pieces of the table, which makes searching it faster."""
        with _explained(self._folder):
            self._table.optimize()

    def _present(self) -> Counter[int]:
        if self._counts is None:
            self._counts = Counter()
            for batch in self._table.search().select([SHARD]).to_batches(65_536):
                self._counts.update(batch.column(SHARD).to_pylist())
        return self._counts


def import_lancedb() -> Any:
    """Return LanceDB.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import lancedb
    except ImportError as error:
        raise ConfigError(
            "An index of format lancedb needs the package lancedb.",
            hint="pip install 'puma-cli[lancedb]', or take --format parquet.",
        ) from error
    return lancedb


def open_table(folder: Path) -> Any:
    """Return the table of an index.

    Raises:
        ConfigError: LanceDB is not installed.
        DataError: it is damaged or gone.
    """
    lancedb = import_lancedb()
    try:
        return lancedb.connect(str(folder)).open_table(TABLE)
    except Exception as error:  # its errors are of many kinds
        raise DataError(
            f"The table of the index `{folder}` is damaged or missing.", cause=first_line(error)
        ) from error


def first_line(error: Exception) -> str:
    """Return what an error says first; LanceDB's go on with places in its source."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    with explained_writes(folder):
        try:
            yield
        except (RuntimeError, ValueError) as error:
            # A full disk is recognised by what the error says, and told as any other.
            if "No space left" in str(error) or "File too large" in str(error):
                raise
            raise DataError(
                f"The table of the index `{folder}` cannot be written.",
                cause=first_line(error),
                hint="Is it damaged? --overwrite makes the index anew.",
            ) from error
