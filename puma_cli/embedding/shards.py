"""Shards on disk: each is there, whole, once its record is."""

from __future__ import annotations

import json
import os
import secrets
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from puma_cli.checkpoint.output_folder import explained_writes, write_json
from puma_cli.embedding.formats import Parts, file_contents, file_names
from puma_cli.embedding.number_format import INT8, encoded
from puma_cli.embedding.rows import Row
from puma_cli.errors import DataError

FOLDER = "shards"
DRAFT = ".partial"
_CHUNK = 1 << 22


@dataclass(frozen=True)
class FileRecord:
    """A file of a shard: its name, its bytes, and their checksum."""

    name: str
    bytes: int
    crc32: str


@dataclass(frozen=True)
class ShardRecord:
    """What a shard holds, as its `NNNNNN.json` says.

    Args:
        number: which one it is, from 0.
        rows: vectors in it.
        read: inputs that it was made from; those that were left out count.
        skipped: inputs that were left out since they could not be read.
        cut: texts that were longer than the model takes, and were cut.
        inputs: hash of the inputs, to tell whether they are still the same.
        files: its files; none where its rows lie in a database's table.
    """

    number: int
    rows: int
    read: int
    skipped: int
    cut: int
    inputs: str
    files: tuple[FileRecord, ...] = ()


def stem_of(number: int) -> str:
    """Return how the names of a shard's files begin."""
    return f"{number:06d}"


def write_files(
    folder: Path, number: int, vectors: Tensor, rows: Sequence[Row], form: str, store_dtype: str
) -> tuple[FileRecord, ...]:
    """Write the files of a shard, each whole or not at all.

    Args:
        folder: the index.
        vectors: fp32 (N, D).

    Raises:
        OutputError: the disk is full or refuses.
    """
    place = folder / FOLDER
    names = file_names(stem_of(number), form, store_dtype == INT8)
    contents = file_contents(encoded(vectors, store_dtype), rows, form)
    with explained_writes(folder):
        place.mkdir(parents=True, exist_ok=True)
        return tuple(
            _write(place, name, parts) for name, parts in zip(names, contents, strict=True)
        )


def commit(folder: Path, record: ShardRecord) -> None:
    """Say that a shard is there, whole.

    Raises:
        OutputError: the disk is full or refuses.
    """
    with explained_writes(folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        write_json(record_path(folder, record.number), asdict(record))


def record_path(folder: Path, number: int) -> Path:
    """Return where a shard's record is."""
    return folder / FOLDER / f"{stem_of(number)}.json"


def read_record(folder: Path, number: int) -> ShardRecord | None:
    """Return what is recorded of a shard, or None if it is not there.

    Raises:
        DataError: the record is broken.
    """
    path = record_path(folder, number)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(FileRecord(**file) for file in content.pop("files"))
        return ShardRecord(**content, files=files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"`{path}` is damaged.", cause=str(error), hint=REMEDY) from error


REMEDY = "The `puma embed` command that wrote the index makes what is missing or damaged again."


def records(folder: Path, passing_over: bool = False) -> list[ShardRecord]:
    """Return the records of all shards, in order.

    Args:
        passing_over: leave out broken records.

    Raises:
        DataError: one is broken.
    """
    found = []
    for number in sorted(int(path.stem) for path in (folder / FOLDER).glob("[0-9]*.json")):
        try:
            record = read_record(folder, number)
        except DataError:
            if not passing_over:
                raise
        else:
            found += [] if record is None else [record]
    return found


def check_files(folder: Path, record: ShardRecord, checksums: bool) -> None:
    """Raise DataError unless a shard's files are what its record says.

    Args:
        checksums: read every byte; without it, names and sizes are compared.
    """
    for file in record.files:
        path = folder / FOLDER / file.name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(
                f"The index's file `{path}` is missing.", cause=str(error), hint=REMEDY
            ) from error
        if size != file.bytes:
            raise DataError(
                f"The index's file `{path}` is damaged.",
                cause=f"It has {size:,} bytes; {file.bytes:,} were written.",
                hint=REMEDY,
            )
        if checksums and checksum_of(path) != file.crc32:
            raise DataError(
                f"The index's file `{path}` is damaged.",
                cause=f"Its checksum is not {file.crc32}, as when it was written.",
                hint=REMEDY,
            )


def checksum_of(path: Path) -> str:
    """Return the CRC-32 of a file's bytes.

    Raises:
        DataError: it cannot be read.
    """
    found = 0
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                found = zlib.crc32(chunk, found)
    except OSError as error:
        raise DataError(f"`{path}` cannot be read.", cause=str(error)) from error
    return f"{found:08x}"


def forget(folder: Path, number: int) -> None:
    """Remove a shard's record, so that it counts as missing."""
    record_path(folder, number).unlink(missing_ok=True)


def remove_drafts(folder: Path) -> None:
    """Remove what a run that was killed left half written."""
    for draft in (folder / FOLDER).glob(f".*{DRAFT}*"):
        with suppress(OSError):
            draft.unlink()


def _write(folder: Path, name: str, parts: Parts) -> FileRecord:
    # Of its own, since a process that was taken for dead may still be writing the same shard.
    draft = folder / f".{name}{DRAFT}-{secrets.token_hex(4)}"
    size = found = 0
    try:
        with draft.open("wb") as file:
            for part in parts:
                file.write(part)
                size, found = size + len(part), zlib.crc32(part, found)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / name)
    finally:
        draft.unlink(missing_ok=True)
    return FileRecord(name, size, f"{found:08x}")
