"""Strict conversion of configuration values to the types of the settings' fields."""

from __future__ import annotations

import math
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from puma_cli.errors import ConfigError

_TRUE = {"true", "yes", "on"}
_FALSE = {"false", "no", "off"}
_NOTHING = {"null", "none", "~", ""}


def coerce(value: Any, annotation: Any, name: str) -> Any:
    """Return `value` as the type `annotation` asks for; nothing is rounded, guessed or truncated.

    Args:
        value: what YAML or a flag gave.
        annotation: bool, int, float, str, Path, `X | None` or `tuple[X, ...]`.
        name: the setting and where it was set, for the error.

    Raises:
        ConfigError: the value is of another type.
    """
    inner = _without_none(annotation)
    if value is None:
        if inner is annotation:
            raise _wrong(value, annotation, name)
        return None
    if get_origin(inner) is tuple:
        if not isinstance(value, (list, tuple)):
            raise _wrong(value, inner, name)
        element = get_args(inner)[0]
        return tuple(coerce(item, element, name) for item in value)
    return _scalar(value, inner, name)


def parse_text(text: str, annotation: Any, name: str) -> Any:
    """Return what `text`, typed after `--set name=`, means for a field of type `annotation`.

    Raises:
        ConfigError: the text cannot be read as that type.
    """
    inner = _without_none(annotation)
    if inner is not annotation and text.lower() in _NOTHING:
        return None
    if get_origin(inner) is tuple:
        element = get_args(inner)[0]
        items = [item.strip() for item in text.strip("[]").split(",")]
        return tuple(parse_text(item, element, name) for item in items if item)
    if inner is bool and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    if inner is int:
        try:
            return int(text)
        except ValueError:
            raise _wrong(text, inner, name) from None
    return _scalar(text, inner, name)


def _scalar(value: Any, kind: Any, name: str) -> Any:
    if kind is Path and isinstance(value, (str, Path)) and str(value):
        return Path(value)
    if kind in {bool, str} and isinstance(value, kind):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    # YAML 1.1 reads `1e-4`, without a point, as a string.
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            raise _wrong(value, kind, name) from None
        if math.isfinite(number):
            return number
    raise _wrong(value, kind, name)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in {Union, types.UnionType}:
        (inner,) = [part for part in get_args(annotation) if part is not type(None)]
        return inner
    return annotation


def _wrong(value: Any, annotation: Any, name: str) -> ConfigError:
    expected = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text (put it in quotes)",
        Path: "a path",
    }.get(annotation, "a list" if get_origin(annotation) is tuple else str(annotation))
    return ConfigError(f"{name}: {value!r} is not {expected}")
