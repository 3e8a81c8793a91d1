"""Temporary folders beside a target: each belongs to a live run, and dead runs' are cleaned up.

A run for `out` holds the lock `.out.partial-1a2b3c4d.lock` from before its draft
`.out.partial-1a2b3c4d` exists until after that became `out`. A result that is being replaced is
`.out.old-1a2b3c4d` for a moment. A lock dies with its process, however that ends, so what lies
beside an unheld lock, or beside none, nobody works on.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MANY = 1000  # files, beyond which the whole disk is sooner synced than each of them
_HELD = {errno.EAGAIN, errno.EACCES}


@contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """Make an empty folder beside `target` that is gone at the end, unless it was put in place.

    Raises:
        OSError: it cannot be made.
    """
    token = secrets.token_hex(4)
    draft, lock = _draft(target, token), _lock(target, token)
    handle = _take(lock, wait=True)
    try:
        draft.mkdir()
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        _release(lock, handle)


def put_in_place(draft: Path, target: Path) -> None:
    """Rename `draft` to `target`; a folder that stands there goes once the new one does."""
    if not target.exists():
        draft.rename(target)
        _sync_folder(target.parent)
        return
    old = target.with_name(draft.name.replace(".partial-", ".old-"))
    target.rename(old)
    try:
        draft.rename(target)
    except BaseException:
        old.rename(target)
        raise
    _sync_folder(target.parent)
    # Half removed it must not be taken for a result to restore: a draft never is.
    old.rename(draft)
    shutil.rmtree(draft, ignore_errors=True)


def clean_up(target: Path) -> None:
    """Remove what dead runs for `target` left, and restore the result that one was replacing."""
    for token in _tokens(target):
        draft, lock = _draft(target, token), _lock(target, token)
        with suppress(OSError):
            handle = _take(lock, wait=False)
            if handle is None:
                continue
            try:
                old = target.with_name(f".{target.name}.old-{token}")
                shutil.rmtree(draft, ignore_errors=True)
                if old.exists():
                    old.rename(draft if target.exists() else target)
                    shutil.rmtree(draft, ignore_errors=True)
            finally:
                _release(lock, handle)


def sync(folder: Path) -> None:
    """Put a folder's files and their names on the disk.

    Raises:
        OSError: the disk is full or broken, as some systems say only now.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    if len(files) > _MANY and hasattr(os, "sync"):
        os.sync()
        return
    for path in files:
        # Another folder's file, linked in, was written long ago.
        if path.stat().st_nlink == 1:
            _sync_file(path)
    for place in {path.parent for path in files} | {folder}:
        _sync_folder(place)


def _tokens(target: Path) -> list[str]:
    """Return the tokens of all runs that left traces beside `target`, the latest first."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.(?:partial|old)-([0-9a-f]{{8}})(?:\.lock)?")
    found: dict[str, int] = {}
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match and not entry.is_symlink():
                changed = entry.stat(follow_symlinks=False).st_ctime_ns
                found[match[1]] = max(changed, found.get(match[1], 0))
    return sorted(found, key=lambda token: -found[token])


def _draft(target: Path, token: str) -> Path:
    return target.with_name(f".{target.name}.partial-{token}")


def _lock(target: Path, token: str) -> Path:
    return target.with_name(f".{target.name}.partial-{token}.lock")


def _take(lock: Path, wait: bool) -> int | None:
    """Return a handle that holds `lock`, or None if another process holds it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        if not _hold(handle, wait):
            os.close(handle)
            return None
        # Whoever held it before has removed it, maybe after it was opened here.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), lock.stat()):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()} {socket.gethostname()}".encode())
                return handle
        os.close(handle)


def _hold(handle: int, wait: bool) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return True
        except OSError as error:
            if error.errno in _HELD:
                return False
            # This file system has no locks: the owner's number has to do.
    return wait or not _owner_lives(handle)


def _owner_lives(handle: int) -> bool:
    """Tell whether the process that a lock names may be running; if in doubt, it is."""
    import psutil

    number, _, host = os.read(handle, 400).decode("utf-8", "replace").partition(" ")
    if host != socket.gethostname() or not number.isdecimal():
        return os.fstat(handle).st_size > 0
    return psutil.pid_exists(int(number))


def _release(lock: Path, handle: int | None) -> None:
    # On Windows an open file cannot be removed, elsewhere a closed one may be taken at once.
    if os.name == "nt" and handle is not None:
        os.close(handle)
    with suppress(OSError):
        lock.unlink()
    if os.name != "nt" and handle is not None:
        os.close(handle)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Ask the system to put the folder's entries on the disk, where it can be asked."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
