"""Writing and reading the weight files of stand-ins, without puma and without torch."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from io import BufferedWriter
from pathlib import Path
from typing import Any

WIDTHS = {"F32": 4, "BF16": 2, "F16": 2}
# Random content repeats after so many elements, but no two tensors begin alike.
BLOCK = 1 << 22

Shapes = Mapping[str, tuple[int, ...]]


def write_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    shards: Sequence[Shapes],
    dtype: str,
    *,
    sparse: bool,
    seed: int = 0,
) -> None:
    """Write a checkpoint of the given tensors.

    Args:
        shards: names and shapes of each file's tensors.
        dtype: of all tensors, a key of `WIDTHS`.
        sparse: leave the tensors as holes, which read as zeros and take no space on the disk.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    block = b"" if sparse else _random_block(dtype, seed)
    weight_map: dict[str, str] = {}
    for number, shapes in enumerate(shards, 1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_file(folder / name, shapes, dtype, block)
        weight_map.update(dict.fromkeys(shapes, name))
    if len(shards) > 1:
        size = sum(_size(shape, dtype) for shapes in shards for shape in shapes.values())
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        text = json.dumps(index, indent=2) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def digests(folder: Path) -> dict[str, str]:
    """Return a hash of every tensor's dtype, shape and bytes in a checkpoint folder, by name."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            entries = json.loads(file.read(length))
            entries.pop("__metadata__", None)
            for name, entry in entries.items():
                start, end = entry["data_offsets"]
                digest = hashlib.blake2b(f"{entry['dtype']}{entry['shape']}".encode())
                file.seek(8 + length + start)
                while start < end:
                    data = file.read(min(8 << 20, end - start))
                    digest.update(data)
                    start += len(data)
                found[name] = digest.hexdigest()
    return found


def _write_file(path: Path, shapes: Shapes, dtype: str, block: bytes) -> None:
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in shapes.items():
        size = _size(shape, dtype)
        entry = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + size]}
        content[name] = entry
        place += size
    header = json.dumps(content, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        if block:
            for name, shape in shapes.items():
                _write_tensor(file, name, _size(shape, dtype), block)
        file.truncate(8 + len(header) + place)


def _write_tensor(file: BufferedWriter, name: str, size: int, block: bytes) -> None:
    """Write a tensor's bytes, which begin at a place in `block` that its name decides."""
    start = zlib.crc32(name.encode()) * 4 % len(block)
    while size:
        size -= file.write(memoryview(block)[start : start + size])
        start = 0


def _size(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape) * WIDTHS[dtype]


def _random_block(dtype: str, seed: int) -> bytes:
    """Return normal numbers of deviation 0.02, as a fresh model's weights are."""
    import numpy as np

    values = np.random.default_rng(seed).standard_normal(BLOCK, dtype=np.float32) * 0.02
    if dtype == "F16":
        return values.astype(np.float16).tobytes()
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.tobytes()
