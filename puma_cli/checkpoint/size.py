"""The bytes that a model takes on disk."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.layout import DOWNLOADED


def bytes_on_disk(folder: Path) -> int:
    """Return the bytes of all files that make up a checkpoint."""
    files = {path for pattern in DOWNLOADED for path in folder.glob(pattern)}
    return sum(path.stat().st_size for path in files)
