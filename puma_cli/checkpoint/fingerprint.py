"""Hashes that tell whether a parent is still what it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

from puma_cli.checkpoint.json_object import LARGEST, read_object
from puma_cli.checkpoint.layout import CONFIG, EMBEDDER, LAYOUT, PROVENANCE
from puma_cli.checkpoint.links import checked_file, open_regular
from puma_cli.checkpoint.safetensors_header import TensorEntry, read_header
from puma_cli.checkpoint.shard_index import weight_files

SAMPLED = "sampled-sha256"
FULL = "sha256"
COMMIT = "commit"
_WINDOWS = 4
_WINDOW = 256  # bytes
_CHUNK = 1 << 22
# Files about a folder rather than part of what it computes.
_ABOUT = (
    PROVENANCE,
    LAYOUT.card,
    LAYOUT.log,
    LAYOUT.training_page,
    LAYOUT.training_plot,
    LAYOUT.tensorboard,
)
_TEXTS = ("*.json", "*.jsonl", "*.tsv", "*.txt")
# What training data can be beside a data set in the M-BEIR layout; shards lie one level below.
_TABLES = ("*.parquet", "*.csv", "*.jsonl")
_DATA_ROOMS = (LAYOUT.queries, LAYOUT.pools, LAYOUT.qrels, LAYOUT.instructions)


def fingerprint(folder: str | Path) -> str:
    """Return `sampled-sha256:...` of a folder or file, in milliseconds whatever its size.

    For a checkpoint it covers the config and embedder settings, every safetensors header, the sizes
    of all files at the top and four windows of 256 bytes of each tensor, at fixed places. For a
    data set in the M-BEIR layout it covers names, sizes and windows of its text files, not its
    images; for any other folder, those of the JSON and text files at its top and of the tables
    there and one level below; for a file, its name, size and windows.

    Raises:
        CheckpointError: the weights cannot be read.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    if (folder / CONFIG).is_file():
        _add_checkpoint(digest, folder)
    else:
        for file in _text_files(folder):
            _add(digest, _name(file, folder), file.stat().st_size)
            with file.open("rb", buffering=0) as opened:
                _add_windows(digest, opened, 0, file.stat().st_size)
    return f"{SAMPLED}:{digest.hexdigest()}"


def identify(folder: str | Path, full: bool = False) -> str:
    """Return the folder's full hash if `full`, and its fingerprint otherwise."""
    return full_hash(folder) if full else fingerprint(folder)


def is_unchanged(folder: str | Path, recorded: str) -> bool:
    """Tell whether a folder still has the `recorded` hash, of whichever kind that is."""
    if recorded.startswith(f"{COMMIT}:"):
        # A snapshot of the hub's cache is named after its commit and never changes.
        return f"{COMMIT}:{Path(folder).resolve().name}" == recorded
    return identify(folder, full=recorded.startswith(f"{FULL}:")) == recorded


def full_hash(folder: str | Path) -> str:
    """Return `sha256:...` over every byte of a file or of a folder's, minutes for a large one."""
    folder = Path(folder)
    digest = hashlib.sha256()
    for file in [folder] if folder.is_file() else _all_files(folder):
        name = _name(file, folder)
        if name.partition("/")[0] in _ABOUT:
            continue
        _add(digest, name, file.stat().st_size)
        with file.open("rb", buffering=0) as opened:
            while chunk := opened.read(_CHUNK):
                digest.update(chunk)
    return f"{FULL}:{digest.hexdigest()}"


def _add_checkpoint(digest: hashlib._Hash, folder: Path) -> None:
    for name in (CONFIG, EMBEDDER):
        content = _content(folder, name)
        _add(digest, name, len(content))
        digest.update(content)
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name not in _ABOUT and not file.name.startswith("."):
            _add(digest, file.name, file.stat().st_size)
    for file in [*weight_files(folder), *_heads(folder)]:
        header = read_header(file)
        digest.update(header.raw)
        with file.open("rb", buffering=0) as opened:
            for entry in _by_place(header.tensors.values()):
                _add_windows(digest, opened, entry.start, entry.end)


def _all_files(folder: Path) -> list[Path]:
    """Return the files below a folder, those in folders that it links to as well."""
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link to a folder above would never end.
        folders[:] = [] if os.path.realpath(place) in seen else sorted(folders)
        seen.add(os.path.realpath(place))
        found += [Path(place, name) for name in names]
    return sorted(path for path in found if path.is_file())


def _content(folder: Path, name: str) -> bytes:
    if not os.path.lexists(folder / name):
        return b""
    with open_regular(checked_file(folder, folder / name)) as file:
        return file.read(LARGEST)


def _heads(folder: Path) -> list[Path]:
    """Return the weights after the decoder that `embedder.json` names, if it names any."""
    if not (folder / EMBEDDER).is_file():
        return []
    name = read_object(folder / EMBEDDER).get("head")
    if type(name) is not str or Path(name).name != name or not (folder / name).is_file():
        return []
    checked_file(folder, folder / name)
    return [folder / name]


def _add_windows(digest: hashlib._Hash, file: FileIO, start: int, end: int) -> None:
    """Add evenly spread windows of the bytes from `start` to `end`, or all of a short stretch."""
    if end - start <= _WINDOWS * _WINDOW:
        file.seek(start)
        digest.update(file.read(end - start))
        return
    last = end - start - _WINDOW
    for window in range(_WINDOWS):
        file.seek(start + last * window // (_WINDOWS - 1))
        digest.update(file.read(_WINDOW))


def _add(digest: hashlib._Hash, name: str, size: int) -> None:
    digest.update(f"{name}\0{size}\0".encode())


def _by_place(entries: Iterable[TensorEntry]) -> list[TensorEntry]:
    return sorted(entries, key=lambda entry: entry.start)


def _name(file: Path, folder: Path) -> str:
    return file.name if file == folder else file.relative_to(folder).as_posix()


def _text_files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    rooms = [folder / room for room in _DATA_ROOMS if (folder / room).is_dir()]
    files = {file for pattern in _TEXTS for file in folder.glob(pattern)}
    files |= {file for room in rooms for pattern in _TEXTS for file in room.rglob(pattern)}
    if not rooms:
        files |= {
            file for kind in _TABLES for deep in ("", "*/") for file in folder.glob(deep + kind)
        }
    return sorted(file for file in files if file.is_file() and file.name not in _ABOUT)
