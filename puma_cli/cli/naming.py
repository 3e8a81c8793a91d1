"""Folder names and follow-up commands that the command line proposes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def short_name(model: str) -> str:
    """Return a model's name as part of a folder name: its last path part, or id without slashes."""
    path = Path(model)
    name = path.resolve().name if path.is_dir() else model
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "model"


def puma(*words: object) -> str:
    """Return a `puma` command line with its words quoted for a shell."""
    return shlex.join(["puma", *(str(word) for word in words)])


def percent(share: float, digits: int = 1) -> str:
    """Return a share in [0, 1] as a percentage without its sign."""
    return f"{100 * share:.{digits}f}"
