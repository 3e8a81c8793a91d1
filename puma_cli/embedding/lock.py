"""One writer of an index at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from puma_cli.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold an index's lock, which ends with its process, however that ends.

    Raises:
        OutputError: another process holds it.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(
                    f"Another `puma embed` is writing to `{folder}`.",
                    hint="Let it end, or choose another --output-dir.",
                ) from error
            except OSError:
                # This file system has no locks.
                pass
        yield
    finally:
        os.close(handle)
