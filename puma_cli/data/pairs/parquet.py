"""Rows of a parquet file, a few thousand in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from puma_cli.errors import DataError

_ROWS = 4_096


class ParquetTable:
    """The columns of a parquet file that hold texts or lists of texts.

    Args:
        batch: rows in memory at a time.
    """

    unit = "row"

    def __init__(self, path: Path, batch: int = _ROWS) -> None:
        self.path = path
        self._batch = batch
        with _explained(path), pq.ParquetFile(path) as file:
            self._schema = file.schema_arrow
            self.columns = tuple(self._schema.names)
            empty = file.metadata.num_rows == 0
        if empty:
            raise DataError(f"{path} is empty.", hint="Give a table of pairs.")

    @property
    def plain_columns(self) -> list[str]:
        """The columns that hold texts, numbers or lists of them, neither bytes nor records."""
        return [name for name in self.columns if not self._is_foreign(name)]

    def rows(self, names: Sequence[str], start: int = 0) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the rows with the columns `names` alone.

        Args:
            start: rows before the first that is wanted (>= 0); groups of them are not read.

        Raises:
            DataError: the file is broken, or a column holds something else than texts.
        """
        for name in names:
            self._check_texts(name)
        with _explained(self.path), pq.ParquetFile(self.path, memory_map=True) as file:
            first, done = _group_of(file.metadata, start)
            groups = range(first, file.metadata.num_row_groups)
            for whole in file.iter_batches(self._batch, row_groups=groups, columns=list(names)):
                batch = whole.slice(max(0, start - done))
                done += whole.num_rows - batch.num_rows
                columns = [batch.column(name).to_pylist() for name in names]
                for row, values in enumerate(zip(*columns, strict=True), start=done + 1):
                    yield row, dict(zip(names, values, strict=True))
                done += batch.num_rows

    def _is_foreign(self, name: str) -> bool:
        kind = self._schema.field(name).type
        inner = kind.value_type if _is_list(kind) else kind
        return bool(
            pa.types.is_struct(inner)
            or pa.types.is_binary(inner)
            or pa.types.is_large_binary(inner)
        )

    def _check_texts(self, name: str) -> None:
        kind = self._schema.field(name).type
        # The images of a whole batch would be read before the first row showed what they are.
        if self._is_foreign(name):
            raise DataError(
                f"The column {name!r} of {self.path} holds no texts but {kind}.",
                cause="Columns of pairs hold texts and paths of image files.",
                hint="Write images that lie inside the table to files, and their paths to a "
                "column; of records, write the text.",
            )


def _group_of(metadata: pq.FileMetaData, row: int) -> tuple[int, int]:
    """Return the group that a row is in, and how many rows are before that group."""
    before = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if before + rows > row:
            return group, before
        before += rows
    return metadata.num_row_groups, before


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as parquet.",
            cause=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="Is it whole? A few lines that begin with `version https://git-lfs` stand for a "
            "file that is still to be fetched: git lfs pull",
        ) from error
