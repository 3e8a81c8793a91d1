"""What a search returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puma_cli.embedding.rows import Row, path_to_text


@dataclass(frozen=True)
class Hit:
    """One result.

    Args:
        rank: its place among the results, from 1.
        score: cosine of the query's vector and its own, in [-1, 1] but for rounding.
        row: what was embedded.
    """

    rank: int
    score: float
    row: Row

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"rank": self.rank, "score": round(self.score, 6), **plain_row(self.row)}


@dataclass(frozen=True)
class Answer:
    """A query and its results, best first."""

    query: Row
    hits: tuple[Hit, ...]

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"query": plain_row(self.query), "hits": [hit.as_plain() for hit in self.hits]}


def plain_row(row: Row) -> dict[str, Any]:
    """Return a row as JSON can hold it."""
    image: Path | None = row.image
    metadata: Mapping[str, Any] = row.metadata
    return {
        "id": row.id,
        "text": row.text,
        "image": None if image is None else path_to_text(image),
        "metadata": dict(metadata),
    }
