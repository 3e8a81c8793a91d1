"""Inputs at addresses that fsspec knows, such as `s3://bucket/photos`, copied as they are read."""

from __future__ import annotations

import os
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from puma_cli.data.pairs.files import SUFFIXES as TABLES
from puma_cli.embedding.image_files import is_image
from puma_cli.embedding.rows import Broken, Item, RemotePath, Row
from puma_cli.embedding.starts import Start
from puma_cli.errors import ConfigError, DataError, PumaError

# Images that are fetched at once, which most stores answer side by side.
_AHEAD = 64
# What tells, beside the size, whether an object is still the same.
_MARKS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created")


class Store:
    """A file system, and a folder of this machine for copies from it.

    Args:
        url: an address in it.

    Raises:
        ConfigError: nothing is installed that reads such addresses.
        DataError: it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        import fsspec.core

        try:
            self.files, self.path = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{url} cannot be read.",
                cause=str(error),
                hint="fsspec reads s3:// by the package s3fs, gs:// by gcsfs, hf:// by "
                "huggingface_hub.",
            ) from error
        self.url = url
        self.room = tempfile.TemporaryDirectory(prefix="puma-", ignore_cleanup_errors=True)
        self._copies = 0

    def kind(self) -> str:
        """Return `folder` or `file`.

        Raises:
            DataError: there is nothing there, or the store does not answer.
        """
        with self.explained(self.url):
            if self.files.isdir(self.path):
                return "folder"
            if self.files.isfile(self.path):
                return "file"
        raise DataError(f"There is nothing at {self.url}.")

    def entries(self, folder: str) -> list[dict[str, Any]]:
        """Return what is in a folder, hidden files left out, in the order of names."""
        with self.explained(self.address(folder)):
            found = self.files.ls(folder, detail=True)
        named = [e | {"name": e["name"].rstrip("/")} for e in found]
        wanted = [
            e
            for e in named
            if not _last(e["name"]).startswith(".") and e["name"] != folder.rstrip("/")
        ]
        return sorted(wanted, key=lambda entry: _last(entry["name"]))

    def fetch(self, paths: Sequence[str]) -> list[Path]:
        """Copy files here; each keeps its own name."""
        copies = []
        for path in paths:
            place = Path(self.room.name) / str(self._copies)
            place.mkdir()
            self._copies += 1
            copies.append(place / _last(path))
        with self.explained(self.address(paths[0])):
            self.files.get(list(paths), [str(copy) for copy in copies])
        return copies

    def address(self, path: str) -> str:
        """Return the address of a path in the file system."""
        # As the user wrote it, as far as that goes.
        if path.startswith(self.path):
            return self.url.rstrip("/") + path[len(self.path) :]
        return str(self.files.unstrip_protocol(path))

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Tell of what cannot be read."""
        try:
            yield
        except PumaError:
            raise
        # Each store has errors of its own.
        except Exception as error:
            raise DataError(
                f"{what} cannot be read.",
                cause=(str(error).splitlines() or [type(error).__name__])[0],
                hint="Are the keys of the store set, as its own tools take them?",
            ) from error


class RemoteFile:
    """A table or a file of lines, copied here as a whole while it is read.

    Args:
        store: where it is.
        path: its path there.
        open_copy: returns the source that reads a copy.
    """

    def __init__(self, store: Store, path: str, open_copy: Callable[[Path], Any]) -> None:
        self._store, self._path, self._open_copy = store, path, open_copy
        self._address = store.address(path)

    def count(self) -> int | None:
        """Return how many rows a .parquet has; None of others, which only reading tells."""
        if not self._path.lower().endswith(".parquet"):
            return None
        import pyarrow.parquet as pq

        with self._store.explained(self._address), self._store.files.open(self._path) as file:
            return int(pq.read_metadata(file).num_rows)

    def starts(self) -> Iterator[Start]:
        """Yield where each one begins."""
        rows = self.count()
        if rows is not None:
            yield from range(rows)
            return
        with self._copy() as copy:
            yield from self._open_copy(copy).starts()

    def items(self, start: Start = None) -> Iterator[Item]:
        """Yield them in order."""
        with self._copy() as copy:
            for item in self._open_copy(copy).items(start):
                yield self._renamed(item, copy)

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        (copy,) = self._store.fetch([self._path])
        try:
            yield copy
        except PumaError as error:
            self._rename(error, copy)
            raise
        finally:
            _remove(copy)

    def _renamed(self, item: Item, copy: Path) -> Item:
        """Return an item with the file's address in place of that of the copy."""
        if isinstance(item, Broken):
            self._rename(item.error, copy)
            return Broken(item.where.replace(str(copy), self._address), item.error)
        if item.image is not None and item.image.is_relative_to(copy.parent):
            raise DataError(
                f"{self._address} has images beside it that are not copied.",
                hint="Name the folder of this machine that its paths start from: --images DIR. A "
                "folder of images alone may have an address.",
            )
        return item

    def _rename(self, error: PumaError, copy: Path) -> None:
        for name in ("problem", "cause", "hint"):
            setattr(error, name, getattr(error, name).replace(str(copy), self._address))
        error.args = (error.problem,)


class RemoteImages:
    """Images of a folder in a store and of those below it; a few copies are here at a time.

    Args:
        store: where they are.
        path: the folder, or one image.
        prefix: stands before each one's path in its id.
    """

    def __init__(self, store: Store, path: str, prefix: str = "") -> None:
        self._store, self._path, self._prefix = store, path.rstrip("/"), prefix

    def count(self) -> int | None:
        """Return None: to list all takes long."""
        return None

    def starts(self) -> Iterator[Start]:
        """Yield the path of each image in the folder."""
        for entry in self._found(()):
            yield os.path.relpath(entry["name"], self._path)

    def items(self, start: Start = None) -> Iterator[Item]:
        """Yield the images in the order of their names.

        Raises:
            DataError: there is none, or one cannot be fetched.
        """
        steps = PurePosixPath(start).parts if isinstance(start, str) else ()
        base = self._path if self._is_folder() else self._path.rpartition("/")[0]
        found = self._found(steps)
        while group := list(islice(found, _AHEAD)):
            copies = self._store.fetch([entry["name"] for entry in group])
            for entry, copy in zip(group, copies, strict=True):
                name = os.path.relpath(entry["name"], base)
                yield Row(f"{self._prefix}{name}", image=self._image(entry, copy))

    def _image(self, entry: dict[str, Any], copy: Path) -> RemotePath:
        mark = next((str(entry[name]) for name in _MARKS if entry.get(name) is not None), "")
        # Two copies of the same object are to look the same.
        os.utime(copy, ns=(0, zlib.crc32(mark.encode())))
        path = RemotePath(copy)
        path.url, path.room = self._store.address(entry["name"]), self._store.room
        # With the last row that names it, the copy goes.
        weakref.finalize(path, _remove, copy)
        return path

    def _is_folder(self) -> bool:
        return not is_image(self._path)

    def _found(self, steps: Sequence[str]) -> Iterator[dict[str, Any]]:
        if not self._is_folder():
            yield self._store.files.info(self._path)
            return
        found = False
        for entry in self._below(self._path, steps):
            found = True
            yield entry
        if not found:
            raise DataError(f"{self._store.url} holds no images.")

    def _below(self, folder: str, steps: Sequence[str]) -> Iterator[dict[str, Any]]:
        for entry in self._store.entries(folder):
            name = _last(entry["name"])
            if steps and name < steps[0]:
                continue
            if entry["type"] == "directory":
                own = steps[1:] if steps and name == steps[0] else ()
                yield from self._below(entry["name"], own)
            elif is_image(name):
                yield entry


def tables_in(store: Store) -> list[str]:
    """Return the paths of the tables of a folder that has no images beside them."""
    names = [entry["name"] for entry in store.entries(store.path) if entry["type"] == "file"]
    if any(is_image(name) for name in names):
        return []
    return [name for name in names if name.lower().endswith(TABLES)]


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _remove(copy: Path) -> None:
    with suppress(OSError):
        copy.unlink(missing_ok=True)
        copy.parent.rmdir()
