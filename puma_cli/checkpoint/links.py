"""Which files of a checkpoint folder may be opened: regular ones that stay where they belong."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from puma_cli.errors import CheckpointError

_AGAIN = "Download or copy the checkpoint again."


def checked_file(folder: Path, path: Path) -> Path:
    """Return the regular file that `path` leads to, if it stays where the checkpoint's files are.

    That is inside `folder`, or, for a snapshot in a hub cache, inside its `models--*` folder, where
    the snapshot's links lead. Anything else could read a stranger's file into the result.

    Args:
        folder: the checkpoint; it may itself be reached through a link.
        path: a file in it, or in a folder of it.

    Returns:
        the path without links; its name need not be that of `path`.

    Raises:
        CheckpointError: it is missing, leads elsewhere or in a circle, or is no regular file.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        mode = real.stat().st_mode
    except (OSError, ValueError) as error:
        raise _unreachable(path, error) from error
    bounds = _bounds(folder)
    if not real.is_relative_to(bounds):
        raise CheckpointError(
            f"`{path}` leads out of its checkpoint.",
            cause=f"It is a link to `{real}`, which is not in `{bounds}`.",
            hint="Put a copy of that file in its place, if you trust it.",
        )
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"`{path}` is not a regular file.", hint=_AGAIN)
    return real


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe or device would wait for ever or never end.

    Raises:
        CheckpointError: it is missing, cannot be read or is no regular file.
    """
    # Without O_NONBLOCK the opening itself waits for a pipe's writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise _unreachable(path, error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CheckpointError(f"`{path}` is not a regular file.", hint=_AGAIN)
    return os.fdopen(handle, "rb")


def _bounds(folder: Path) -> Path:
    """Return the outermost folder that the links of a checkpoint may lead to."""
    real = Path(os.path.realpath(folder))
    if real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--"):
        return real.parent.parent
    return real


def _unreachable(path: Path, error: OSError | ValueError) -> CheckpointError:
    if isinstance(error, FileNotFoundError):
        cause = "It is a link that leads nowhere." if path.is_symlink() else ""
        return CheckpointError(f"`{path}` is missing.", cause=cause, hint=_AGAIN)
    cause = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
    return CheckpointError(f"`{path}` cannot be read.", cause=f"{cause}.", hint=_AGAIN)
