"""Writes the same rows in every format that tables of pairs come in."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Row = dict[str, Any]


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows of the same keys to a `.jsonl`, `.csv` or `.parquet` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def draw(path: Path, shade: int = 0) -> Path:
    """Write a tiny image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (28, 28), (shade, 255 - shade, 90)).save(path)
    return path


def texts(count: int) -> list[Row]:
    """Pairs of texts with a hard negative, all distinct."""
    return [
        {"query": f"query {n}", "positive": f"answer {n}", "negative": f"wrong {n}"}
        for n in range(count)
    ]


def mmeb(root: Path, count: int = 12) -> Path:
    """Write a folder as MMEB-train has it: two data sets, three splits, images beside them."""
    for shade in range(count):
        draw(root / "images" / "MSCOCO_i2t" / f"{shade}.png", 10 * shade)
    captions = [
        {
            "qry": "<|image_1|>\nFind an image caption describing the given image.",
            "qry_image_path": f"images/MSCOCO_i2t/{n}.png",
            "pos_text": f"caption {n}",
            "pos_image_path": "",
            "neg_text": f"caption {n + 1}",
            "neg_image_path": "",
        }
        for n in range(count)
    ]
    dialogs = [
        {
            "qry": f"Represent the dialogue: is it {n}?",
            "qry_image_path": "",
            "pos_text": "<|image_1|>\nRepresent the given image.",
            "pos_image_path": f"images/MSCOCO_i2t/{n}.png",
        }
        for n in range(count)
    ]
    for split in ("original", "diverse_instruction", "train"):
        for name, rows in (("MSCOCO_i2t", captions), ("VisDial", dialogs)):
            write_table(root / name / f"{split}-00000-of-00001.parquet", rows)
    return root
