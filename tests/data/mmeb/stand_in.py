"""A small stand-in for MMEB's evaluation data, in its exact layout."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

MARK = "<|image_1|>\n"
Row = dict[str, Any]


def row(
    query: str,
    image: str = "",
    texts: Sequence[str] = (),
    images: Sequence[str] = (),
    **more: str,
) -> Row:
    """Return a row; of texts and images of candidates one may be left out."""
    size = max(len(texts), len(images))
    return {
        "qry_text": query,
        "qry_img_path": image,
        "tgt_text": list(texts) or [""] * size,
        "tgt_img_path": list(images) or [""] * size,
        **more,
    }


def write_table(root: Path, name: str, rows: Sequence[Row], shards: int = 1) -> list[Path]:
    """Write the table of a data set, as its parquet shards are named."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for shard in range(shards):
        path = folder / f"test-{shard:05d}-of-{shards:05d}.parquet"
        part = rows[shard * len(rows) // shards : (shard + 1) * len(rows) // shards]
        pq.write_table(pa.Table.from_pylist(list(part)), path)
        paths.append(path)
    return paths


def picture(shade: int, size: tuple[int, int] = (32, 32)) -> bytes:
    """Return a PNG of one grey."""
    out = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(out, "PNG")
    return out.getvalue()


def write_archive(path: Path, images: Mapping[str, bytes], prefix: str = "") -> None:
    """Write `images.zip`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in images.items():
            archive.writestr(prefix + name, content)


def stand_in(root: Path) -> Path:
    """Write three data sets: a classification, a retrieval of images, and grounding by crops.

    All pictures are greys of shades 0 to 150 in steps of 10, in `images.zip`.
    """
    labels = [str(shade) for shade in range(0, 160, 10)]
    images = {f"ImageNet-1K/{shade}.png": picture(int(shade)) for shade in labels}
    images |= {f"MSCOCO_t2i/{shade}.png": picture(int(shade)) for shade in labels}
    images |= {f"RefCOCO/{shade}.png": picture(int(shade)) for shade in labels}
    rows = [
        row(
            f"{MARK}Represent the given image for classification\n",
            f"ImageNet-1K/{shade}.png",
            [shade, *(each for each in labels if each != shade)],
        )
        for shade in labels[:6]
    ]
    write_table(root, "ImageNet-1K", rows, shards=2)
    rows = [
        row(
            f"Find me an everyday image that matches the given caption: {shade}\n",
            texts=[f"{MARK}Represent the given image."] * 4,
            images=[f"MSCOCO_t2i/{each}.png" for each in _from(labels, shade, 4)],
        )
        for shade in labels[:5]
    ]
    write_table(root, "MSCOCO_t2i", rows)
    rows = [
        row(
            f"{MARK}Select the portion of the image that follows the language: {shade}\n",
            f"RefCOCO/{shade}.png",
            [f"{MARK}Represent the given cropped image of {word}" for word in ("this", "that")],
            [f"RefCOCO/{shade}.png"] * 2,
        )
        for shade in labels[:4]
    ]
    write_table(root, "RefCOCO", rows)
    write_archive(root / "images.zip", images)
    return root


def _from(labels: Sequence[str], first: str, count: int) -> list[str]:
    start = labels.index(first)
    return [labels[(start + step) % len(labels)] for step in range(count)]
