"""Copying ranges of bytes from file to file, inside the kernel where it can."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from threading import Event
from typing import Protocol, TypeVar

from puma_cli.errors import CheckpointError

# What one job copies: long enough to cost nothing to start, short enough to show progress.
CHUNK_BYTES = 64 << 20
# What one call to the system copies before the job looks whether it should stop.
CALL_BYTES = 16 << 20
BUFFER_BYTES = 1 << 20
# The plain copy would meet these too.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Piece(Protocol):
    """Work between one source and one target file."""

    @property
    def source(self) -> Path: ...

    @property
    def target(self) -> Path: ...

    @property
    def size(self) -> int: ...


P = TypeVar("P", bound=Piece)


@dataclass(frozen=True)
class Range:
    """Bytes to copy.

    Args:
        start: offset of the first one in the file `source` (>= 0).
        place: offset that it gets in the existing file `target` (>= 0).
        size: number of bytes (>= 0).
    """

    source: Path
    start: int
    target: Path
    place: int
    size: int

    def split(self, limit: int) -> Iterator[Range]:
        """Yield the same bytes in ranges of at most `limit`."""
        for done in range(0, self.size, limit):
            size = min(limit, self.size - done)
            yield replace(self, start=self.start + done, place=self.place + done, size=size)


@dataclass(frozen=True)
class CopyJob:
    """Copies ranges between one source and one target; each copy opens both files anew.

    Raises:
        CheckpointError: the source is gone, cannot be read, or ends before a range does.
        OSError: the target cannot be written; the disk may be full.
    """

    ranges: Sequence[Range]

    def __call__(self, stop: Event) -> None:
        first = self.ranges[0]
        with opened(first.source) as source, first.target.open("r+b", buffering=0) as target:
            for piece in self.ranges:
                done = _copy_in_kernel(source, target, piece, stop)
                _copy_through_memory(source, target, piece, done, stop)


def copy_jobs(ranges: Iterable[Range]) -> list[CopyJob]:
    """Return jobs of about `CHUNK_BYTES` that together copy `ranges`."""
    pieces = (piece for whole in ranges for piece in whole.split(CHUNK_BYTES))
    return [CopyJob(group) for group in grouped(pieces)]


def grouped(pieces: Iterable[P]) -> Iterator[list[P]]:
    """Yield neighbours of the same two files together, while they stay below `CHUNK_BYTES`."""
    group: list[P] = []
    size = 0
    for piece in pieces:
        same = group and (piece.source, piece.target) == (group[0].source, group[0].target)
        if group and (not same or size + piece.size > CHUNK_BYTES):
            yield group
            group, size = [], 0
        group.append(piece)
        size += piece.size
    if group:
        yield group


def opened(source: Path) -> FileIO:
    """Return a parent's weight file opened for reading, unbuffered.

    Raises:
        CheckpointError: it cannot be opened.
    """
    try:
        return source.open("rb", buffering=0)
    except OSError as error:
        raise unreadable(source, error) from error


def read_some(source: FileIO, buffer: memoryview, path: Path) -> int:
    """Read from where `source` stands into the start of `buffer`; return how many bytes (>= 1).

    Raises:
        CheckpointError: the file cannot be read or ends here.
    """
    try:
        count = source.readinto(buffer)
    except OSError as error:
        raise unreadable(path, error) from error
    if not count:
        raise CheckpointError(
            f"The weights `{path}` became shorter while they were read.",
            cause=f"They now end at byte {source.tell()}.",
            hint="Wait until nothing writes to the checkpoint, then run the same command again.",
        )
    return count


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """Return the error that says that a parent's weight file cannot be read, and why."""
    return CheckpointError(
        f"The weights `{path}` cannot be read: {error.strerror}.",
        hint="Check the disk and the checkpoint, or download it again.",
    )


def _copy_in_kernel(source: FileIO, target: FileIO, piece: Range, stop: Event) -> int:
    """Copy without passing through this process; return the number of bytes that it took.

    Many systems and file systems cannot: they have no such call, refuse it (across file systems,
    for instance), or report 0 bytes. The rest is then for the plain copy, whose reads and writes
    tell a broken source from a broken target.
    """
    copy_file_range = getattr(os, "copy_file_range", None)
    if copy_file_range is None:
        return 0
    done = 0
    while done < piece.size and not stop.is_set():
        count = min(CALL_BYTES, piece.size - done)
        start, place = piece.start + done, piece.place + done
        try:
            moved = copy_file_range(source.fileno(), target.fileno(), count, start, place)
        except OSError as error:
            if error.errno in _FULL:
                raise
            break
        if not moved:
            break
        done += moved
    return done


def _copy_through_memory(
    source: FileIO, target: FileIO, piece: Range, done: int, stop: Event
) -> None:
    """Copy what is left after the first `done` bytes."""
    if done == piece.size:
        return
    buffer = memoryview(bytearray(min(BUFFER_BYTES, piece.size - done)))
    source.seek(piece.start + done)
    target.seek(piece.place + done)
    while done < piece.size and not stop.is_set():
        count = read_some(source, buffer[: piece.size - done], piece.source)
        write_all(target, buffer[:count])
        done += count


def write_all(target: FileIO, view: memoryview) -> None:
    """Write all of `view` where `target` stands."""
    while view:
        view = view[target.write(view) :]
