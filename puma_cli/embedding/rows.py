"""What is embedded, one row an input, and what stands for a row that cannot be read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from puma_cli.errors import DataError

# How a path that is no UTF-8 is written where only text can stand.
_URI = "file://"
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


class RemotePath(type(Path())):  # type: ignore[misc]
    """The copy of an image that lies elsewhere, at `url`; or its place alone, without a copy."""

    url = ""
    # The temporary folder that the copy is in, which is there as long as somebody holds it.
    room: object = None


@dataclass(frozen=True)
class Row:
    """One input.

    Args:
        id: what the user calls it.
        text: the text, or None.
        image: path of an image file, or None; at least one of the two is given.
        instruction: what is asked of it, if it says so itself.
        metadata: further columns of its table.
    """

    id: str
    text: str | None = None
    image: Path | None = None
    instruction: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Broken:
    """The place of an input that cannot be read.

    Args:
        where: file and line, or the image's path.
        error: why.
    """

    where: str
    error: DataError


Item = Row | Broken


def content_of(items: Sequence[Item]) -> str:
    """Return a hash of what some items hold; of an image it sees size and time of change."""
    digest = hashlib.sha256()
    for item in items:
        if isinstance(item, Broken):
            known: list[object] = ["broken", item.where]
        else:
            known = [item.id, item.text, item.instruction, as_json(item.metadata)]
            if item.image is not None:
                known.append(_state(item.image))
        digest.update(json.dumps(known).encode() + b"\n")
    return digest.hexdigest()


def as_json(metadata: Mapping[str, Any]) -> str:
    """Return further columns as text; what JSON has no form for is written as it shows itself."""
    return json.dumps(dict(metadata), ensure_ascii=False, default=str) if metadata else ""


def path_to_text(path: Path) -> str:
    """Return a path as text that any file may hold: as a `file://` address if it is no UTF-8.

    Of the copy of an image, it is the address of the image.
    """
    if isinstance(path, RemotePath) and path.url:
        return path.url
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _URI + quote_from_bytes(os.fsencode(path))
    return text


def text_to_path(text: str) -> Path:
    """Return the path that `path_to_text` was given."""
    if text.startswith(_URI):
        return Path(os.fsdecode(unquote_to_bytes(text.removeprefix(_URI))))
    if is_address(text):
        found = RemotePath(text)
        found.url = text
        return found
    return Path(text)


def is_address(text: str) -> bool:
    """Tell whether a text is an address such as `s3://bucket/name`, not a path."""
    return _ADDRESS.match(text) is not None


def shown_path(path: Path) -> str:
    """Return a path, or the address that it is a copy from, as people read it."""
    return getattr(path, "url", "") or readable(str(path))


def readable(name: str) -> str:
    r"""Return a file's name as text; bytes that are no UTF-8 show as `\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]
