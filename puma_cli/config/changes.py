"""Which settings of a run are not the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, NamedTuple


class Change(NamedTuple):
    """A setting by its dotted name, with its value and its default as text."""

    name: str
    value: str
    default: str


def changes(settings: Mapping[str, Any], cls: type) -> list[Change]:
    """Return the settings that differ from their defaults, in the order of their fields.

    What has no default, such as an input, is no change; nor is a name that `cls` does not know.

    Args:
        settings: values by dotted name, as plain JSON.
        cls: the settings' dataclass.
    """
    return [
        Change(name, say_value(settings[name]), say_value(default))
        for name, default in defaults(cls).items()
        if name in settings and settings[name] != default
    ]


def defaults(cls: type) -> dict[str, Any]:
    """Return the defaults of a settings class by dotted name, as plain JSON."""
    found: dict[str, Any] = {}
    for field in fields(cls):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        if value is MISSING:
            continue
        if is_dataclass(value) and not isinstance(value, type):
            inner = defaults(type(value))
            found |= {f"{field.name}.{name}": default for name, default in inner.items()}
        else:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def say_value(value: Any) -> str:
    """Return a setting's value as one types it after `--set name=`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ",".join(map(say_value, value)) or "none"
    return str(value)
