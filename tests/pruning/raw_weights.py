"""Safetensors files written and read byte by byte, as the format's description says."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

# dtype as the format spells it, shape, bytes
Raw = tuple[str, tuple[int, ...], bytes]


def write_raw(path: Path, tensors: Mapping[str, Raw], metadata: Mapping[str, str] | None) -> None:
    """Write tensors in the order given, with a header padded to 8 bytes."""
    content: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    place = 0
    for name, (dtype, shape, data) in tensors.items():
        offsets = [place, place + len(data)]
        content[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        place += len(data)
    header = json.dumps(content).encode()
    header += b" " * (-len(header) % 8)
    data = b"".join(data for _, _, data in tensors.values())
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def read_raw(path: Path) -> tuple[dict[str, Raw], dict[str, str], int]:
    """Return a file's tensors by name, its metadata, and the offset of its first tensor byte."""
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    content = json.loads(whole[8 : 8 + length])
    metadata = content.pop("__metadata__", {})
    data = whole[8 + length :]
    tensors = {}
    for name, entry in content.items():
        start, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], tuple(entry["shape"]), data[start:end])
    return tensors, metadata, 8 + length
