"""What safetensors files say about themselves, read without touching their tensors."""

from __future__ import annotations

import gc
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.json_object import NotAnObjectError, parse_object
from puma_cli.checkpoint.layout import WEIGHTS
from puma_cli.checkpoint.links import open_regular
from puma_cli.checkpoint.shard_index import read_index, weight_files
from puma_cli.errors import CheckpointError

_LENGTH = struct.Struct("<Q")
LENGTH_BYTES = _LENGTH.size
LONGEST_HEADER = 100_000_000  # bytes; the bound of the format's reference reader
_LARGEST = 1 << 63  # no size, offset or number of elements reaches this
_DIMENSIONS = 64
_INTEGER = frozenset({int})
_FIELDS = {"dtype", "shape", "data_offsets"}
DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: its dtype as the format spells it, its shape and its bytes' place.

    Args:
        file: the file that holds it.
        start: offset of its first byte in that file; `end` is one past its last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.end - self.start

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """The header of one safetensors file, checked against the file's size."""

    path: Path
    raw: bytes
    file_size: int
    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Return the header of the safetensors file `path`.

    Raises:
        CheckpointError: the file is missing, truncated, has holes or is of another format.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            raw = file.read(header_length(path, file.read(LENGTH_BYTES), size))
    except OSError as error:
        raise CheckpointError(
            f"The weights `{path}` cannot be read: {error.strerror}.",
            hint="Download or copy the checkpoint again.",
        ) from error
    return parse_header(path, raw, size)


def header_length(path: Path, start: bytes, size: int) -> int:
    """Return the length in bytes of a header, which the first eight bytes of its file say.

    Args:
        path: the file, for the error.
        size: of the file, in bytes.

    Raises:
        CheckpointError: the file cannot hold such a header.
    """
    if len(start) < LENGTH_BYTES:
        raise _broken(path, f"it has {size} bytes, less than any header")
    (length,) = _LENGTH.unpack(start[:LENGTH_BYTES])
    if length > min(LONGEST_HEADER, size - LENGTH_BYTES):
        raise _broken(path, f"its header claims {length} bytes of a file of {size}")
    return int(length)


def parse_header(path: Path, raw: bytes, size: int) -> Header:
    """Return the header that `raw` spells, checked against the file's size.

    Args:
        path: where the file is, or will be.
        raw: the header's JSON, without the eight bytes of its length.
        size: of the whole file, in bytes.

    Raises:
        CheckpointError: it breaks the format.
    """
    with _garbage_stays():
        return _parsed(path, raw, size)


@contextmanager
def _garbage_stays() -> Iterator[None]:
    """Keep the collector off: it would look again and again at a million entries, all in use."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _parsed(path: Path, raw: bytes, size: int) -> Header:
    try:
        content = parse_object(raw)
    except NotAnObjectError as error:
        raise _broken(path, "its header is not a JSON object") from error
    except ValueError as error:
        raise _broken(path, f"its header is not JSON: {error}") from error
    if raw[:1] != b"{":
        raise _broken(path, "its header does not start with its JSON object")
    metadata = content.pop("__metadata__", {})
    if type(metadata) is not dict or any(type(value) is not str for value in metadata.values()):
        raise _broken(path, "its metadata is no map from text to text")
    origin = LENGTH_BYTES + len(raw)
    tensors = {name: _entry(path, name, value, origin) for name, value in content.items()}
    _check_places(path, tensors, origin, size)
    return Header(path, raw, size, tensors, metadata)


def checkpoint_headers(folder: str | Path) -> dict[str, TensorEntry]:
    """Return every tensor of a checkpoint folder by name, merged over its shards.

    Raises:
        CheckpointError: a file is missing or broken, or shards and index disagree.
    """
    folder = Path(folder)
    files = weight_files(folder)
    index = None if files[0].name == WEIGHTS else read_index(folder)
    return merged_tensors(folder, [read_header(file) for file in files], index)


def merged_tensors(
    folder: Path, headers: Iterable[Header], index: Mapping[str, str] | None
) -> dict[str, TensorEntry]:
    """Return every tensor of a checkpoint by name, checked against its index if it has one.

    Raises:
        CheckpointError: shards hold a name twice, or the index and they disagree on a name.
    """
    tensors: dict[str, TensorEntry] = {}
    for header in headers:
        for name, entry in header.tensors.items():
            if name in tensors:
                other = tensors[name].file.name
                raise CheckpointError(
                    f"`{folder}` holds `{name}` twice: {other} and {entry.file.name}."
                )
            tensors[name] = entry
    if index is None:
        return tensors
    for name, shard in index.items():
        if name not in tensors or tensors[name].file.name != shard:
            raise CheckpointError(
                f"The shard `{folder / shard}` does not hold `{name}`, as its index says.",
                hint="Download or copy the checkpoint again.",
            )
    if len(tensors) > len(index):
        name = next(name for name in tensors if name not in index)
        raise CheckpointError(
            f"The shard `{tensors[name].file}` holds `{name}`, of which its index says nothing.",
            hint="Download or copy the checkpoint again.",
        )
    return tensors


def _entry(path: Path, name: str, value: Any, origin: int) -> TensorEntry:
    if type(value) is not dict or value.keys() != _FIELDS:
        raise _broken(path, f"its entry for `{name[:200]}` is unreadable")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not (
        type(dtype) is str
        and dtype in DTYPE_BITS
        and type(shape) is type(offsets) is list
        and len(shape) <= _DIMENSIONS
        and len(offsets) == 2
        and _INTEGER.issuperset(map(type, (*shape, *offsets)))  # no bool, no float
        and min(*shape, *offsets) >= 0
        and max(*shape, *offsets) < _LARGEST
    ):
        raise _broken(path, f"its entry for `{name[:200]}` is unreadable")
    start, end = offsets
    elements = math.prod(shape)
    # A size of zero must not hide others that no reader could multiply.
    if not elements and math.prod(size for size in shape if size) >= _LARGEST:
        raise _broken(path, f"its entry for `{name[:200]}` is unreadable")
    if (end - start) * 8 != DTYPE_BITS[dtype] * elements:
        raise _broken(path, f"`{name[:200]}` of {dtype} {shape} cannot take {end - start} bytes")
    return TensorEntry(name, dtype, tuple(shape), path, origin + start, origin + end)


def _check_places(path: Path, tensors: Mapping[str, TensorEntry], origin: int, size: int) -> None:
    """Check that the tensors fill the file: no hole, no overlap, nothing missing at its end."""
    position = origin
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != position:
            raise _broken(path, f"`{entry.name}` starts at {entry.start}, not at {position}")
        position = entry.end
    if position > size:
        raise _broken(path, f"it should have {position} bytes and has {size}", cut=True)
    if position < size:
        raise _broken(path, f"it should have {position} bytes and has {size}")


def _broken(path: Path, cause: str, *, cut: bool = False) -> CheckpointError:
    what = "is truncated" if cut else "is not a whole safetensors file"
    return CheckpointError(
        f"The weights `{path}`: the file {what}.",
        cause=cause[0].upper() + cause[1:] + ".",
        hint="Download or copy the checkpoint again.",
    )
