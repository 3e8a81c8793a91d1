"""Ids and what came along with them, as Arrow tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from puma_cli.embedding.rows import Row, as_json, path_to_text, text_to_path

ID, TEXT, IMAGE, INSTRUCTION, METADATA = COLUMNS = (
    "id",
    "text",
    "image",
    "instruction",
    "metadata",
)


def to_columns(rows: Sequence[Row]) -> dict[str, pa.Array]:
    """Return the columns of some rows (N); what JSON cannot say of metadata is text."""
    kind = pa.large_string()
    return {
        ID: pa.array([row.id for row in rows], kind),
        TEXT: pa.array([row.text for row in rows], kind),
        IMAGE: pa.array([row.image and path_to_text(row.image) for row in rows], kind),
        INSTRUCTION: pa.array([row.instruction for row in rows], kind),
        METADATA: pa.array([as_json(row.metadata) or None for row in rows], kind),
    }


def to_rows(values: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the rows that `to_columns` was given, as far as JSON could say them."""
    return [
        Row(
            entry[ID],
            entry[TEXT],
            path_of(entry[IMAGE]),
            entry[INSTRUCTION],
            json.loads(entry[METADATA]) if entry[METADATA] else {},
        )
        for entry in values
    ]


def path_of(text: str | None) -> Path | None:
    """Return the path that a column holds, or None."""
    return None if text is None else text_to_path(text)
