"""Where vectors are kept between commands."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "PUMA_CACHE"
VECTORS = "vectors"
HASHES = "file-hashes.sqlite"
# In a store: what it holds, in words; the endings of its files, whole and half written.
ABOUT = "store.json"
SHARD = ".safetensors"
DRAFT = ".partial"


def cache_folder(asked: str | Path | None = None) -> Path:
    """Return the cache's folder: the one asked for, `$PUMA_CACHE`, or puma's below `~/.cache`.

    `$XDG_CACHE_HOME` stands in for `~/.cache` where it is set.
    """
    if asked:
        return Path(asked).expanduser()
    if own := os.environ.get(VARIABLE):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser() / "puma"
