"""An index on disk, opened to be searched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from puma_cli.embedding.formats import LANCEDB
from puma_cli.embedding.index_file import IndexDescription, read_description
from puma_cli.embedding.shards import REMEDY, ShardRecord, check_files, records
from puma_cli.errors import DataError
from puma_cli.evaluation.search import search
from puma_cli.progress import SILENT, Reporter
from puma_cli.searching.found import Hit
from puma_cli.searching.stored_vectors import StoredVectors

# Files of so many bytes in all are compared with their checksums unasked.
_SMALL = 256 << 20


class Index(Protocol):
    """Vectors that can be searched.

    Args:
        description: what they are.
        approximate: what is searched approximately, in words with its recall; empty if exactly.
    """

    description: IndexDescription
    approximate: str

    def __len__(self) -> int:
        """Return the number of vectors."""
        ...

    def nearest(self, queries: Tensor, k: int) -> list[tuple[Hit, ...]]:
        """Return the `k` best results of each query (Q, D), equal scores in the index's order."""
        ...

    def approximate_from_now(self, reporter: Reporter = SILENT) -> None:
        """Search by the index of a library from now on; it is made where there is none yet."""
        ...


class FileIndex:
    """An index of `.npy`, `.safetensors` or `.parquet` files, searched exactly unless asked.

    Args:
        folder: where it is.
        description: what it is.
        shards: the records of its shards.
    """

    def __init__(
        self, folder: Path, description: IndexDescription, shards: Sequence[ShardRecord]
    ) -> None:
        self.description = description
        self.approximate = ""
        self._folder, self._shards = folder, shards
        self.vectors = StoredVectors(folder, description, shards)
        self._faiss: object = None

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(self, queries: Tensor, k: int) -> list[tuple[Hit, ...]]:
        """Return the `k` best results of each query (Q, D)."""
        from puma_cli.searching.faiss_index import FaissIndex

        if isinstance(self._faiss, FaissIndex):
            scores, places = self._faiss.search(queries, k)
        else:
            scores, places = search(queries, self.vectors, k)
        return [
            tuple(
                Hit(rank, score, self.vectors.row(place))
                for rank, (score, place) in enumerate(zip(line, row, strict=True), start=1)
                if place >= 0
            )
            for line, row in zip(scores.tolist(), places.tolist(), strict=True)
        ]

    def approximate_from_now(self, reporter: Reporter = SILENT) -> None:
        """Search by faiss's inverted lists from now on."""
        from puma_cli.searching.faiss_index import open_faiss_index

        self._faiss = found = open_faiss_index(self._folder, self.vectors, self._shards, reporter)
        self.approximate = found.words


def open_index(folder: Path, verify: bool = False) -> Index:
    """Open an index.

    Args:
        verify: compare every file with its checksum; without it, those of a small index.

    Raises:
        DataError: it is missing, damaged or empty.
    """
    description = read_description(folder)
    shards = records(folder)
    total = sum(record.rows for record in shards)
    if description.complete and (len(shards), total) != (description.shards, description.rows):
        there = {record.number for record in shards}
        lost = next((n for n in range(description.shards) if n not in there), None)
        raise DataError(
            f"The index `{folder}` is damaged.",
            cause=f"It holds {total:,} vectors in {len(shards):,} shards, not "
            f"{description.rows:,} in {description.shards:,}"
            + (f"; shard {lost} is missing." if lost is not None else "."),
            hint=REMEDY,
        )
    if not total:
        raise DataError(
            f"The index `{folder}` holds no vectors yet.",
            hint="Type the `puma embed` command that began it again.",
        )
    if description.format == LANCEDB:
        from puma_cli.searching.lance_index import LanceIndex

        return LanceIndex(folder, description, total)
    small = sum(file.bytes for record in shards for file in record.files) <= _SMALL
    for record in shards:
        check_files(folder, record, verify or small)
    return FileIndex(folder, description, shards)
