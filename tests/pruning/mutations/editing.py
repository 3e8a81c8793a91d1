"""What all mutations are made with: odd values, and ways to edit a checkpoint's files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SIDE_FILES = ("generation_config.json", "tokenizer_config.json", "modules.json", "embedder.json")
# Beside the checkpoint, where nothing may be read or written.
OUTSIDE = "outside"
NOT_FINITE = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 2**31, 2**63, 2**64, 10**30, -(10**18), 0.5, -1.5, 1e300,
    "", "0", "2", "model", "../x", "\0", "é" * 50, [], [None], [0, 1], ["full_attention"],
    {}, {"a": 1}, [[1]], {"": {}},
)  # fmt: skip

Mutate = Callable[[Path, Random], None]
CLASSES: dict[str, Mutate] = {}


def mutation(mutate: Mutate) -> Mutate:
    """Register a class of mutations under its function's name."""
    CLASSES[mutate.__name__.replace("_", " ")] = mutate
    return mutate


def shards(folder: Path) -> list[Path]:
    """Return the weight files of the checkpoint before it is broken."""
    return sorted(folder.glob("model*.safetensors"))


def edit_json(path: Path, random: Random, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    changed = change(content)
    path.write_text(json.dumps(content if changed is None else changed), encoding="utf-8")


def split(path: Path) -> tuple[bytes, bytes]:
    """Return the header's text and the tensors' bytes of a safetensors file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return raw[8 : 8 + length], raw[8 + length :]


def join(path: Path, header: bytes, data: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def edit_header(folder: Path, random: Random, change: Callable[[dict[str, Any], str], Any]) -> None:
    """Let `change` alter the header of one shard, given one of its tensors' names."""
    path = random.choice(shards(folder))
    header, data = split(path)
    content = json.loads(header)
    name = random.choice([name for name in content if name != "__metadata__"])
    change(content, name)
    join(path, json.dumps(content).encode(), data)


def edit_text(path: Path, change: Callable[[str], str]) -> None:
    """Let `change` alter the JSON text of a file, for a shard that of its header."""
    if path.suffix == ".safetensors":
        header, data = split(path)
        join(path, change(header.decode()).encode("utf-8", "surrogatepass"), data)
    else:
        text = change(path.read_text(encoding="utf-8"))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))


def any_text(folder: Path, random: Random) -> Path:
    named = [folder / name for name in (CONFIG, CONFIG, INDEX, INDEX, *SIDE_FILES)]
    return random.choice([*named, *shards(folder)])


def replace_value(content: Any, random: Random, value: Any) -> None:
    """Put `value` at a random place of nested objects and lists."""
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = random.choice(keys)
        inner = place[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.7:
            place = inner
            continue
        place[key] = value
        return
