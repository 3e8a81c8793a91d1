"""Strings of a config that name decoder layers by number, such as those left unquantised."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from puma_cli.errors import CheckpointError

# With a plain dot, or with an escaped one in a regular expression.
_NAMED: Final = re.compile(r"(?<![\w])(layers\\?\.)(\d+)(?!\d)")
_PATTERN: Final = re.compile(r"(?<![\w])layers\\?\.[\[(]")
_TOWER: Final = re.compile(r"visual|vision|image|video|audio|speech|mtp")


class _GoneError(Exception):
    """The named layer is not kept."""


def rename_layers(value: Any, kept: Sequence[int]) -> Any:
    """Return `value` with decoder layers that its strings name renumbered.

    In lists and as keys, names of layers that are not kept are left out.

    Args:
        value: any JSON value; not modified.
        kept: ascending indices of the layers that stay.

    Raises:
        CheckpointError: a string names layers in a way that a cut would change.
    """
    slots = {layer: slot for slot, layer in enumerate(kept)}
    try:
        return _walk(value, slots)
    except _GoneError as error:
        raise CheckpointError(
            f"config.json names `{error}`, a layer that is not kept.",
            hint="Keep that layer.",
        ) from None


def _walk(value: Any, slots: dict[int, int]) -> Any:
    if isinstance(value, str):
        return _renamed(value, slots)
    if isinstance(value, list):
        found = []
        for item in value:
            try:
                found.append(_walk(item, slots))
            except _GoneError:
                if not isinstance(item, str):
                    raise
        return found
    if isinstance(value, dict):
        content = {}
        for key, item in value.items():
            if _TOWER.search(key):
                content[key] = item
                continue
            try:
                name = _renamed(key, slots)
            except _GoneError:
                continue
            content[name] = _walk(item, slots)
        return content
    return value


def _renamed(text: str, slots: dict[int, int]) -> str:
    if _TOWER.search(text):
        return text
    if any(slot != layer for layer, slot in slots.items()) and _PATTERN.search(text):
        raise CheckpointError(
            f"config.json names layers by the pattern `{text}`.",
            cause="After this cut they would have other numbers.",
            hint="Keep first layers only, with --keep.",
        )

    def place(match: re.Match[str]) -> str:
        layer = int(match[2])
        if layer not in slots:
            raise _GoneError(text)
        return f"{match[1]}{slots[layer]}"

    return _NAMED.sub(place, text)
