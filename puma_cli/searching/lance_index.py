"""A table of LanceDB, searched exactly, or by its own index."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puma_cli.embedding.formats import VECTOR
from puma_cli.embedding.index_file import IndexDescription
from puma_cli.embedding.lance_table import first_line, open_table
from puma_cli.embedding.row_file import COLUMNS, to_rows
from puma_cli.embedding.shards import REMEDY
from puma_cli.errors import DataError
from puma_cli.progress import SILENT, Reporter
from puma_cli.searching.found import Hit
from puma_cli.searching.recall import DEPTH, SAMPLE, recall

_KIND = "IVF_HNSW_SQ"
# Rows that an index is worth making for; below, LanceDB refuses to train one.
_LEAST = 256
# Results that are scored by the vectors themselves for each that is returned.
_REFINE = 4
_DISTANCE = "_distance"


class LanceIndex:
    """The table that `puma embed --format lancedb` wrote.

    Args:
        folder: the index.
        description: what it is.
        rows: how many its shards have.

    Raises:
        DataError: the table is damaged, or has other rows than were written.
    """

    def __init__(self, folder: Path, description: IndexDescription, rows: int) -> None:
        self.description = description
        self.approximate = ""
        self._folder = folder
        self._table = open_table(folder)
        there = self._asked(lambda: self._table.count_rows())
        if there != rows:
            raise DataError(
                f"The table of the index `{folder}` is damaged.",
                cause=f"It has {there:,} rows; {rows:,} were written.",
                hint=REMEDY,
            )
        self._rows = rows

    def __len__(self) -> int:
        return self._rows

    def nearest(self, queries: Tensor, k: int) -> list[tuple[Hit, ...]]:
        """Return the `k` best results of each query (Q, D)."""
        return [self._best(query, k, bool(self.approximate)) for query in queries.float()]

    def approximate_from_now(self, reporter: Reporter = SILENT) -> None:
        """Search by LanceDB's own index from now on; it is made where there is none of all rows."""
        if self._rows < _LEAST:
            self.approximate = f"Exact after all: LanceDB makes no index of fewer than {_LEAST}."
            return
        made = next(
            (index for index in self._asked(self._table.list_indices) if VECTOR in index.columns),
            None,
        )
        if made is None or self._unindexed(made.name):
            reporter.note("LanceDB makes its index")
            self._asked(self._make)
        share = self._recall()
        self.approximate = (
            f"Approximate, by LanceDB ({_KIND}): it finds {100 * share:.1f}% of the {DEPTH} "
            f"nearest of {min(SAMPLE, self._rows)} of its own vectors."
        )

    def _make(self) -> None:
        with warnings.catch_warnings():
            # Its older form of this call works with all versions.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._table.create_index(
                "dot", vector_column_name=VECTOR, index_type=_KIND, replace=True
            )

    def _unindexed(self, name: str) -> bool:
        found = self._asked(lambda: self._table.index_stats(name))
        return found is None or found.num_unindexed_rows > 0

    def _recall(self) -> float:
        rows = self._asked(lambda: self._table.search().select([VECTOR]).limit(SAMPLE).to_arrow())
        queries = _vectors(rows)
        both = [
            [{hit.row.id for hit in self._best(query, DEPTH, way)} for query in queries]
            for way in (True, False)
        ]
        found, exact = both
        return recall([set(line) for line in found], [set(line) for line in exact])

    def _best(self, query: Tensor, k: int, by_index: bool) -> tuple[Hit, ...]:
        def ask() -> Any:
            asked = self._table.search(query.numpy(), vector_column_name=VECTOR)
            asked = asked.distance_type("dot").limit(k)
            asked = asked.refine_factor(_REFINE) if by_index else asked.bypass_vector_index()
            return asked.select([*COLUMNS, VECTOR, _DISTANCE]).to_arrow()

        table = self._asked(ask)
        # Its own are rounded otherwise from call to call.
        scores = (_vectors(table).double() @ query.double()).float()
        order = scores.argsort(descending=True, stable=True).tolist()
        rows = to_rows(table.select(list(COLUMNS)).to_pylist())
        return tuple(
            Hit(rank, float(scores[place]), rows[place])
            for rank, place in enumerate(order, start=1)
        )

    def _asked(self, call: Any) -> Any:
        try:
            return call()
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(
                f"The table of the index `{self._folder}` cannot be read.",
                cause=first_line(error),
                hint=REMEDY,
            ) from error


def _vectors(table: Any) -> Tensor:
    column = table.column(VECTOR).combine_chunks()
    flat = np.array(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
    return torch.from_numpy(flat).view(len(column), -1)
