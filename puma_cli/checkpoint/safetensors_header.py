"""What safetensors files say about themselves, read without touching their tensors."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.layout import INDEX, PICKLED, WEIGHTS
from puma_cli.errors import CheckpointError

_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000  # the bound of the format's reference reader
DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
    "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
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
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_LENGTH.size)
            if len(start) < _LENGTH.size:
                raise _broken(path, f"it has {size} bytes, less than any header")
            (length,) = _LENGTH.unpack(start)
            if length > min(_LONGEST_HEADER, size - _LENGTH.size):
                raise _broken(path, f"its header claims {length} bytes of a file of {size}")
            raw = file.read(length)
    except OSError as error:
        raise CheckpointError(
            f"The weights `{path}` cannot be read: {error.strerror}.",
            hint="Download or copy the checkpoint again.",
        ) from error
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise _broken(path, "its header is not JSON") from error
    if not isinstance(content, dict):
        raise _broken(path, "its header is not a JSON object")
    metadata = content.pop("__metadata__", None) or {}
    origin = _LENGTH.size + length
    tensors = {name: _entry(path, name, value, origin) for name, value in content.items()}
    _check_places(path, tensors, origin, size)
    return Header(path, raw, size, tensors, metadata)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that a checkpoint folder's weights are in, sorted by name.

    Raises:
        CheckpointError: there are none, or the index is broken or names a missing shard.
    """
    if (folder / WEIGHTS).is_file():  # what transformers looks for first
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        files = [folder / name for name in sorted(set(read_index(folder).values()))]
        for file in files:
            if not file.is_file():
                raise CheckpointError(
                    f"The checkpoint `{folder}` misses its shard `{file.name}`.",
                    cause=f"`{INDEX}` names it.",
                    hint="Finish the download or copy the checkpoint again.",
                )
        return files
    if any(any(folder.glob(pattern)) for pattern in PICKLED):
        raise CheckpointError(
            f"`{folder}` holds pickled weights only.",
            cause="puma opens safetensors only: a pickle can run code when it is opened.",
            hint="Use a revision with safetensors, or convert it with the model's own tools.",
        )
    raise CheckpointError(
        f"`{folder}` holds no `{WEIGHTS}` and no `{INDEX}`.",
        hint="Finish the download, or name the folder that holds the weights.",
    )


def read_index(folder: Path) -> dict[str, str]:
    """Return the weight map of a sharded checkpoint: tensor name to file name."""
    path = folder / INDEX
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(file) for name, file in weight_map.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"The shard index `{path}` cannot be read.",
            cause=f"{type(error).__name__}: {error}",
            hint="Download or copy the checkpoint again.",
        ) from error
    for file in names.values():
        # A name with a folder in it would read, and later write, outside the checkpoint.
        if Path(file).name != file:
            raise CheckpointError(f"The shard index `{path}` names `{file}`, not a plain file.")
    return names


def checkpoint_headers(folder: str | Path) -> dict[str, TensorEntry]:
    """Return every tensor of a checkpoint folder by name, merged over its shards.

    Raises:
        CheckpointError: a file is missing or broken, or shards and index disagree.
    """
    folder = Path(folder)
    tensors: dict[str, TensorEntry] = {}
    files = weight_files(folder)
    for file in files:
        for name, entry in read_header(file).tensors.items():
            if name in tensors:
                other = tensors[name].file.name
                raise CheckpointError(f"`{folder}` holds `{name}` twice: {other} and {file.name}.")
            tensors[name] = entry
    if files[0].name != WEIGHTS:
        for name, shard in read_index(folder).items():
            if name not in tensors or tensors[name].file.name != shard:
                raise CheckpointError(
                    f"The shard `{folder / shard}` does not hold `{name}`, as its index says.",
                    hint="Download or copy the checkpoint again.",
                )
    return tensors


def _entry(path: Path, name: str, value: Any, origin: int) -> TensorEntry:
    try:
        dtype, shape = value["dtype"], tuple(int(size) for size in value["shape"])
        start, end = (int(offset) for offset in value["data_offsets"])
        bits = DTYPE_BITS[dtype] * math.prod(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, f"its entry for `{name}` is unreadable") from error
    if min(shape, default=0) < 0 or (end - start) * 8 != bits:
        raise _broken(path, f"`{name}` of {dtype} {list(shape)} cannot take {end - start} bytes")
    return TensorEntry(name, dtype, shape, path, origin + start, origin + end)


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
