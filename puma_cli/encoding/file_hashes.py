"""What files hold, as hashes that are remembered while path, size, time and inode stay the same."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

State = tuple[int, int, int]
"""Size in bytes, time of change in nanoseconds, inode."""

# A file that changes twice within a tick of its file system's clock looks the same after both.
_TICK_NS = 2_000_000_000
_CHUNK = 1 << 22
_READERS = 4
# SQLite takes some hundred variables in any release.
_ASKED_AT_ONCE = 500
_PATIENCE = 30.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, "
    "inode INTEGER, sha256 BLOB) WITHOUT ROWID"
)


class FileHashes:
    """The sha256 of files, each read once as long as it does not change.

    Without a database, or with one that cannot be used, they are remembered by this object alone.

    Args:
        database: a file that several processes may use at a time, or None.
        rehash: read every file again once.
    """

    def __init__(self, database: Path | None = None, rehash: bool = False) -> None:
        self._database, self._rehash = database, rehash
        self._known: dict[str, tuple[State, bytes]] = {}
        self.read = 0
        """Files that were read."""

    def of(self, paths: Iterable[Path]) -> dict[Path, bytes | None]:
        """Return the sha256 of each file; None for one that cannot be read."""
        real = {path: os.path.realpath(path) for path in dict.fromkeys(paths)}
        states = {name: _state(name) for name in dict.fromkeys(real.values())}
        there = {name: state for name, state in states.items() if state is not None}
        unknown = [name for name, state in there.items() if not self._knows(name, state)]
        if unknown and not self._rehash:
            for name, state, digest in self._remembered(unknown):
                if state == there[name]:
                    self._known[name] = state, digest
            unknown = [name for name in unknown if not self._knows(name, there[name])]
        if unknown:
            self._hash(unknown, there)
        return {
            path: self._known[name][1] if name in there and name in self._known else None
            for path, name in real.items()
        }

    def _knows(self, name: str, state: State) -> bool:
        return name in self._known and self._known[name][0] == state

    def _hash(self, names: Sequence[str], states: dict[str, State]) -> None:
        now = time.time_ns()
        with ThreadPoolExecutor(_READERS, "hash") as pool:
            digests = list(pool.map(_sha256, names))
        new = []
        for name, digest in zip(names, digests, strict=True):
            self._known.pop(name, None)
            if digest is None:
                continue
            self.read += 1
            self._known[name] = states[name], digest
            if states[name][1] < now - _TICK_NS:
                new.append((os.fsencode(name), *states[name], digest))
        with self._connected() as connection:
            if connection is not None and new:
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", new)
                connection.commit()

    def _remembered(self, names: Sequence[str]) -> list[tuple[str, State, bytes]]:
        found: list[tuple[bytes, int, int, int, bytes]] = []
        with self._connected() as connection:
            for start in range(0, len(names) if connection is not None else 0, _ASKED_AT_ONCE):
                some = [os.fsencode(name) for name in names[start : start + _ASKED_AT_ONCE]]
                marks = ",".join("?" * len(some))
                assert connection is not None
                columns = "path, size, mtime_ns, inode, sha256"
                found += connection.execute(
                    f"SELECT {columns} FROM files WHERE path IN ({marks})", some
                )
        return [
            (os.fsdecode(name), (size, time_ns, inode), digest)
            for name, size, time_ns, inode, digest in found
        ]

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection | None]:
        """Give the open database, or None; what it fails at is done without it."""
        connection = self._open()
        if connection is None:
            yield None
            return
        with closing(connection), self._excused():
            yield connection

    def _open(self) -> sqlite3.Connection | None:
        if self._database is None:
            return None
        with self._excused():
            self._database.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._database, timeout=_PATIENCE)
            try:
                connection.execute(_TABLE)
            except BaseException:
                connection.close()
                raise
            return connection
        return None

    @contextmanager
    def _excused(self) -> Iterator[None]:
        """Go on without a database that fails: nothing but time is lost."""
        try:
            yield
        except (OSError, sqlite3.OperationalError):
            # Locked for long, read-only, or on a full disk.
            self._database = None
        except sqlite3.DatabaseError:
            # No database, or a broken one: whoever comes next starts it anew.
            assert self._database is not None
            with suppress(OSError):
                self._database.unlink()
            self._database = None


def _state(name: str) -> State | None:
    try:
        found = Path(name).stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _sha256(name: str) -> bytes | None:
    digest = hashlib.sha256()
    try:
        with Path(name).open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return None
    return digest.digest()
