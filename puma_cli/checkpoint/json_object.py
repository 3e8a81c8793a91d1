"""Reading the JSON objects that a checkpoint is described by, strictly.

Python's reader takes what the standard does not define: keys twice, NaN, half characters. Two
readers of one such file need not agree, so none is accepted.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.links import open_regular
from puma_cli.errors import CheckpointError

LARGEST = 1 << 26  # bytes; the largest tokenizers take half of it
_DEEPEST = 64
_DIGITS = 64  # tokenizers write 10^30 for "no limit"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_object(path: Path, largest: int = LARGEST) -> dict[str, Any]:
    """Return the JSON object in the file `path`.

    Args:
        largest: a file of more bytes is refused unread.

    Raises:
        CheckpointError: it is missing, no regular file, too large or no strict JSON object.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise _unreadable(path, f"It has {size} bytes, and {largest} would be many.")
        try:
            raw = file.read(largest + 1)
        except OSError as error:
            raise _unreadable(path, f"{error.strerror}.") from error
    try:
        content = parse_object(raw)
        _check_depth(content)
    except NotAnObjectError as error:
        raise CheckpointError(f"`{path}` is not a JSON object.") from error
    except ValueError as error:
        raise _unreadable(path, f"{error}.") from error
    return content


class NotAnObjectError(ValueError):
    """The text is JSON of another kind than an object."""


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object that `raw` spells in UTF-8.

    Raises:
        ValueError: it is no strict JSON object; says why, without a full stop.
    """
    try:
        text = raw.decode("utf-8")
        content = _load(text)
        # A hook for every object costs half the time of reading, and without one a key that stands
        # twice counts once: then there are fewer keys than colons. Most texts have no other colons.
        if _keys(content) != raw.count(b":"):
            content = _load(text, object_pairs_hook=_object)
        if _SURROGATE.search(raw):
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("It is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("It holds half of a surrogate pair") from None
    if not isinstance(content, dict):
        raise NotAnObjectError("It is not a JSON object")
    return content


def _load(text: str, **hooks: Any) -> Any:
    return json.loads(text, parse_float=_finite, parse_constant=_no_constant, **hooks)


def _keys(content: Any) -> int:
    """Return the number of keys of all objects in `content`."""
    number, open_ends = 0, [content]
    while open_ends:
        item = open_ends.pop()
        if type(item) is dict:
            number += len(item)
            open_ends += item.values()
        elif type(item) is list:
            open_ends += item
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"It says `{name[:100]}` twice")
        content[name] = value
    return content


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"Its number {text[:40]} is not finite")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"Its number {text} is not JSON")


def _check_depth(content: dict[str, Any]) -> None:
    """Refuse what later readers and writers, which recurse, could not take."""
    level: list[Any] = [content]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for item in level:
            for value in item.values() if isinstance(item, dict) else item:
                if isinstance(value, dict | list):
                    inner.append(value)
                elif type(value) is int and abs(value) >= 10**_DIGITS:
                    raise ValueError(f"It holds a number of more than {_DIGITS} digits")
        if not inner:
            return
        level = inner
    raise ValueError("It is nested too deeply")


def _unreadable(path: Path, cause: str) -> CheckpointError:
    return CheckpointError(
        f"`{path}` cannot be read as JSON.",
        cause=cause,
        hint="Download or copy the checkpoint again.",
    )
