"""Settings from a recipe or file, `--set a.b=v` and flags, the later the stronger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from puma_cli.config.coercion import coerce, parse_text
from puma_cli.config.legal import check_settings
from puma_cli.config.recipe import read_config
from puma_cli.config.suggestion import did_you_mean
from puma_cli.errors import ConfigError

S = TypeVar("S")
Tree = dict[str, Any]
Complete = Callable[[Mapping[str, Any]], Mapping[str, Any]]
STAGES = "stages"


@dataclass(frozen=True)
class Layer:
    """Settings from one place; of several layers the later is the stronger.

    Args:
        values: by name, nested or dotted.
        origin: where they were set, for errors, such as `in --set`.
        is_text: whether the values are text as typed, to be read as their fields' types.
    """

    values: Mapping[str, Any]
    origin: str
    is_text: bool = False


def load_settings(
    cls: type[S],
    *,
    config: str | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    complete: Complete | None = None,
) -> S:
    """Build settings of type `cls` from a configuration, overrides and flags.

    Args:
        cls: a frozen dataclass of settings.
        config: name of a shipped recipe, or a YAML file.
        overrides: assignments such as `loss.temperature=0.03`, stronger than `config`.
        flags: values by field, dotted for nested ones, strongest; None means not given.
        complete: given what was said so far, returns values for fields nobody set.

    Raises:
        ConfigError: an unknown key, an illegal value, or a required setting that is missing.
    """
    content = {} if config is None else read_config(config)
    if STAGES in content:
        raise ConfigError(
            f"{config} is a recipe of several stages, which is more than one run can have here.",
            hint="`puma distill` runs its stages one after another.",
        )
    layers = [
        Layer(content, f"in {config}"),
        Layer(assignments(overrides), "in --set", is_text=True),
        given(flags),
    ]
    return build_settings(cls, layers, complete)


def build_settings(cls: type[S], layers: Sequence[Layer], complete: Complete | None = None) -> S:
    """Build settings of type `cls` from layers, the later the stronger.

    Args:
        complete: see `load_settings`.

    Raises:
        ConfigError: an unknown key, an illegal value, or a required setting that is missing.
    """
    tree = merged(cls, layers)
    if complete is not None:
        for key, value in complete(tree).items():
            if not _has(tree, key):
                _place(cls, tree, key, value, origin="by default")
    settings = _build(cls, tree)
    check_settings(settings)
    return settings


def merged(cls: type, layers: Sequence[Layer]) -> Tree:
    """Return what layers set, nested, each value checked against its field's type.

    Raises:
        ConfigError: an unknown key, or a value of another type.
    """
    tree: Tree = {}
    for layer in layers:
        _merge(cls, tree, layer.values, layer)
    return tree


def assignments(overrides: Sequence[str]) -> dict[str, str]:
    """Return assignments such as `loss.temperature=0.03` by name, as text.

    Raises:
        ConfigError: one is no assignment.
    """
    return dict(map(_split, overrides))


def given(flags: Mapping[str, Any] | None) -> Layer:
    """Return the layer of those flags that were given."""
    values = {key: value for key, value in (flags or {}).items() if value is not None}
    return Layer(values, "on the command line")


def paths_of(cls: type, prefix: str = "") -> list[str]:
    """Return every key of a settings class, nested ones dotted."""
    found = []
    for name, annotation in get_type_hints(cls).items():
        if is_dataclass(annotation):
            found += paths_of(annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            found.append(prefix + name)
    return found


def _has(tree: Tree, path: str) -> bool:
    *parents, leaf = path.split(".")
    for part in parents:
        tree = tree.get(part, {})
    return leaf in tree


def _split(assignment: str) -> tuple[str, str]:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"--set {assignment!r} is no assignment",
            hint="Write it as --set name=value, for instance --set loss.temperature=0.03",
        )
    return key.strip(), text.strip()


def _merge(
    cls: type, tree: Tree, values: Mapping[str, Any], layer: Layer, prefix: str = ""
) -> None:
    hints = get_type_hints(_class_at(cls, prefix))
    for key, value in values.items():
        path = f"{prefix}{key}"
        if is_dataclass(hints.get(key)) and isinstance(value, Mapping):
            _merge(cls, tree, value, layer, prefix=f"{path}.")
        else:
            _place(cls, tree, path, value, layer.origin, layer.is_text)


def _class_at(cls: type, prefix: str) -> Any:
    for part in prefix.split(".")[:-1]:
        cls = get_type_hints(cls)[part]
    return cls


def _place(
    cls: type, tree: Tree, path: str, value: Any, origin: str, is_text: bool = False
) -> None:
    """Put `value`, checked against its field's type, at the dotted `path` of `tree`."""
    here: Any = cls
    *parents, leaf = path.split(".")
    for part in parents:
        here = get_type_hints(here).get(part)
        if not is_dataclass(here):
            raise _unknown(cls, path, origin)
        tree = tree.setdefault(part, {})
    annotation = get_type_hints(here).get(leaf)
    if annotation is None:
        raise _unknown(cls, path, origin)
    if is_dataclass(annotation):
        inner = ", ".join(field.name for field in fields(annotation))
        raise ConfigError(
            f"{path} {origin} holds several settings and cannot be {value!r}",
            hint=f"Set one of them, such as {path}.{inner.split(', ')[0]}. There are: {inner}",
        )
    name = f"{path} {origin}"
    tree[leaf] = parse_text(value, annotation, name) if is_text else coerce(value, annotation, name)


def _unknown(cls: type, path: str, origin: str) -> ConfigError:
    known = paths_of(cls)
    return ConfigError(
        f"Unknown setting {path!r} {origin}",
        hint=did_you_mean(path, known) or "Known settings: " + ", ".join(known),
    )


def _build(cls: type[S], tree: Tree) -> S:
    values = {}
    for name, annotation in get_type_hints(cls).items():
        if is_dataclass(annotation):
            values[name] = _build(annotation, tree.get(name, {}))  # type: ignore[arg-type]
        elif name in tree:
            values[name] = tree[name]
    missing = [
        field.name
        for field in fields(cls)  # type: ignore[arg-type]
        if field.name not in values
        and field.default is MISSING
        and field.default_factory is MISSING
    ]
    if missing:
        named = [_spelling(name) for name in missing]
        raise ConfigError(
            f"Missing: {', '.join(named)}",
            hint="Give it on the command line, with --set, or in a file passed to --config.",
        )
    return cls(**values)


def _spelling(field: str) -> str:
    """Name a required field as one types it: arguments in capitals, options with dashes."""
    if field in {"model", "student"}:
        return field.upper()
    if field in {"inputs", "models"}:
        return f"{field.upper()[:-1]}..."
    return "--" + field.replace("_", "-")
