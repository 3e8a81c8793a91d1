"""Frozen records out of plain JSON, by the types that their fields declare."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def build(cls: type[T], content: Any) -> T:
    """Return the record of class `cls` that `content` describes; nested ones are built likewise.

    Raises:
        TypeError: a value has another type than its field, or a field is missing or unknown.
    """
    value = _value(cls, content)
    assert isinstance(value, cls)
    return value


def _value(kind: Any, content: Any) -> Any:
    if is_dataclass(kind):
        return _record(kind, content)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        if content is None and NoneType in arguments:
            return None
        (kind,) = (argument for argument in arguments if argument is not NoneType)
        return _value(kind, content)
    if origin is tuple:
        # Only tuples of one kind and any length occur.
        return tuple(_value(arguments[0], entry) for entry in _of(list, content))
    if origin is dict:
        return {key: _value(arguments[1], entry) for key, entry in _of(dict, content).items()}
    if kind is float:
        # JSON writes 1.0 as it pleases.
        if isinstance(content, bool) or not isinstance(content, (int, float)):
            raise TypeError(f"{content!r} is no number")
        return float(content)
    if not isinstance(content, kind) or (kind is int and isinstance(content, bool)):
        raise TypeError(f"{content!r} is no {kind.__name__}")
    return content


def _record(cls: Any, content: Any) -> Any:
    entries = _of(dict, content)
    names = {field.name for field in fields(cls)}
    odd = sorted(set(entries) ^ names)
    if odd:
        raise TypeError(f"{cls.__name__} has the keys {sorted(names)}: {odd[0]!r} does not fit")
    kinds = get_type_hints(cls)
    return cls(**{name: _value(kinds[name], value) for name, value in entries.items()})


def _of(kind: type, content: Any) -> Any:
    if not isinstance(content, kind):
        raise TypeError(f"{str(content)[:40]!r} is no {kind.__name__}")
    return content
