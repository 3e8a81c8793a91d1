"""Which weight files a cut writes, and where in them each tensor lies."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from puma_cli.checkpoint.layout import shard_name
from puma_cli.checkpoint.safetensors_header import DTYPE_BITS, Header, read_header
from puma_cli.errors import CheckpointError
from puma_cli.pruning.planning.plan import Move
from puma_cli.pruning.writing.byte_copy import Range
from puma_cli.pruning.writing.cast import Cast

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8  # bytes, of the widest dtype


@dataclass(frozen=True)
class OutputFile:
    """One weight file that a cut writes.

    Args:
        name: its name in the cut checkpoint.
        moves: the tensors in it, in the order of their bytes.
        whole: the parent's file that it equals byte for byte, or None.
        header: what precedes the tensors' bytes; empty if `whole`.
        size: number of bytes of the file.
    """

    name: str
    moves: tuple[Move, ...]
    whole: Path | None
    header: bytes
    size: int

    def ranges(self, target: Path) -> Iterator[Range]:
        """Yield the bytes to copy to the file `target`, neighbours as one range."""
        if self.whole is not None:
            yield Range(self.whole, 0, target, 0, self.size)
            return
        last: Range | None = None
        for move, place in self._places():
            if move.dtype != move.entry.dtype or not move.size:
                continue
            found = Range(move.entry.file, move.entry.start, target, place, move.size)
            if last is not None and _adjoin(last, found):
                last = Range(last.source, last.start, target, last.place, last.size + found.size)
                continue
            if last is not None:
                yield last
            last = found
        if last is not None:
            yield last

    def casts(self, target: Path) -> Iterator[Cast]:
        """Yield the tensors to cast on their way to the file `target`."""
        for move, place in self._places():
            entry = move.entry
            if move.dtype != entry.dtype and move.size:
                yield Cast(
                    entry.name,
                    entry.dtype,
                    move.dtype,
                    entry.file,
                    entry.start,
                    target,
                    place,
                    entry.size,
                )

    def _places(self) -> Iterator[tuple[Move, int]]:
        place = len(self.header)
        for move in self.moves:
            yield move, place
            place += move.size


def output_files(moves: Sequence[Move], shard_bytes: int | None = None) -> tuple[OutputFile, ...]:
    """Return the weight files that hold the tensors of a plan.

    A parent's file that is not there yet, because it is still to be downloaded, counts as partly
    kept; ask again when it is.

    Args:
        moves: the tensors that stay, in the order of the parent's files.
        shard_bytes: no file's tensors take more, unless a single one does (>= 1). None: one file
            for each of the parent's files that holds tensors that stay.

    Raises:
        CheckpointError: a parent's file is not what it was when the cut was planned.
    """
    headers = {
        path: read_header(path)
        for path in dict.fromkeys(move.entry.file for move in moves)
        if path.is_file()
    }
    _check_moves(moves, headers)
    groups = list(_by_file(moves) if shard_bytes is None else _by_size(moves, shard_bytes))
    return tuple(
        _output_file(shard_name(number, len(groups)), group, headers)
        for number, group in enumerate(groups, 1)
    )


def bytes_to_write(files: Sequence[OutputFile], link: bool = False) -> int:
    """Return the number of bytes that the files need on the disk, if links `link` succeed."""
    return sum(file.size for file in files if not (link and file.whole))


def _adjoin(left: Range, right: Range) -> bool:
    same = left.source == right.source and left.start + left.size == right.start
    return same and left.place + left.size == right.place


def _by_file(moves: Sequence[Move]) -> Iterator[list[Move]]:
    groups: dict[Path, list[Move]] = {}
    for move in moves:
        groups.setdefault(move.entry.file, []).append(move)
    yield from groups.values()


def _by_size(moves: Sequence[Move], limit: int) -> Iterator[list[Move]]:
    group: list[Move] = []
    size = 0
    for move in moves:
        if group and size + move.size > limit:
            yield group
            group, size = [], 0
        group.append(move)
        size += move.size
    if group:
        yield group


def _output_file(name: str, moves: Sequence[Move], headers: Mapping[Path, Header]) -> OutputFile:
    parents = [
        headers[path] for path in {move.entry.file: None for move in moves} if path in headers
    ]
    if len(parents) == 1 and _is_whole(moves, parents[0]):
        return OutputFile(name, tuple(moves), parents[0].path, b"", parents[0].file_size)
    ordered = _aligned(moves)
    header = _header(ordered, _common_metadata(parents))
    size = len(header) + sum(move.size for move in ordered)
    return OutputFile(name, tuple(ordered), None, header, size)


def _is_whole(moves: Sequence[Move], parent: Header) -> bool:
    unchanged = all(
        (move.entry.file, move.entry.name, move.entry.dtype) == (parent.path, move.name, move.dtype)
        for move in moves
    )
    return unchanged and len(moves) == len(parent.tensors)


def _aligned(moves: Sequence[Move]) -> Sequence[Move]:
    """Return the moves in an order in which every tensor starts at a multiple of its width.

    That is the parent's order almost always. Without a tensor of odd size between them, though,
    others can lose their alignment, which torch's loader needs; the widest first, all have it.
    """
    place = 0
    for move in moves:
        if place % _width(move):
            return sorted(moves, key=_width, reverse=True)
        place += move.size
    return moves


def _width(move: Move) -> int:
    return max(DTYPE_BITS[move.dtype] // 8, 1)


def _header(moves: Sequence[Move], metadata: Mapping[str, str]) -> bytes:
    content: dict[str, object] = {"__metadata__": dict(metadata)}
    place = 0
    for move in moves:
        shape = list(move.entry.shape)
        offsets = [place, place + move.size]
        content[move.name] = {"dtype": move.dtype, "shape": shape, "data_offsets": offsets}
        place += move.size
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + _LENGTH.size) % _ALIGNMENT)
    return _LENGTH.pack(len(text)) + text


def _common_metadata(parents: Sequence[Header]) -> dict[str, str]:
    """Return what all parents' files say, and the format, which older loaders insist on."""
    shared = dict(parents[0].metadata) if parents else {}
    for parent in parents[1:]:
        shared = {key: value for key, value in shared.items() if parent.metadata.get(key) == value}
    return {"format": "pt", **shared}


def _check_moves(moves: Sequence[Move], headers: Mapping[Path, Header]) -> None:
    names: set[str] = set()
    for move in moves:
        entry = move.entry
        if move.name in names:
            raise CheckpointError(f"Two tensors of the cut would be named `{move.name}`.")
        names.add(move.name)
        if entry.file not in headers:
            continue
        found = headers[entry.file].tensors.get(entry.name)
        if found is None or (found.dtype, found.shape, found.start, found.end) != (
            entry.dtype,
            entry.shape,
            entry.start,
            entry.end,
        ):
            raise CheckpointError(
                f"The weights `{entry.file}` changed after the cut was planned.",
                cause=f"`{entry.name}` is not where it was.",
                hint="Wait until nothing writes to the checkpoint, then run the command again.",
            )
