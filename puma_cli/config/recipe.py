"""Recipes: commented YAML files that ship with the package, and the user's own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from puma_cli.config.suggestion import did_you_mean
from puma_cli.errors import ConfigError

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Recipe:
    """A shipped recipe.

    Args:
        name: what `--config` takes.
        title: its first comment line.
        usage: the command in its head, as typed.
        text: the whole file.
    """

    name: str
    title: str
    usage: str
    text: str

    @property
    def command(self) -> str:
        """The `puma` command this recipe configures, such as `distill`."""
        words = self.usage.split()
        return words[1] if len(words) > 1 else ""


def list_recipes() -> list[Recipe]:
    """Return the shipped recipes in alphabetical order."""
    folder = files("puma_cli.config") / "recipes"
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return [
        _parse(entry.name.rpartition(".")[0], entry.read_text(encoding="utf-8"))
        for entry in entries
        if entry.name.endswith(_SUFFIXES)
    ]


def find_recipe(name: str) -> Recipe:
    """Return the shipped recipe called `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    recipes = {recipe.name: recipe for recipe in list_recipes()}
    if name not in recipes:
        raise ConfigError(
            f"There is no recipe called {name!r}",
            cause="Shipped recipes: " + ", ".join(recipes),
            hint=did_you_mean(name, recipes) or "`puma recipes ls` describes them.",
        )
    return recipes[name]


def read_config(config: str) -> Mapping[str, Any]:
    """Return the settings in a shipped recipe or a YAML file, not yet checked against a command.

    Args:
        config: a recipe's name, or a path; what ends on .yaml or .yml or has a slash is a path.

    Raises:
        ConfigError: no such recipe or file, or its text is no YAML mapping.
    """
    path = Path(config)
    if not config.endswith(_SUFFIXES) and len(path.parts) == 1 and not path.is_file():
        return _mapping(find_recipe(config).text, config)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        near = did_you_mean(path.name, _siblings(path))
        raise ConfigError(
            f"Cannot read the configuration {config}",
            cause=str(getattr(error, "strerror", None) or error) + ".",
            hint=near or "`puma recipes ls` lists the recipes that --config takes by name.",
        ) from error
    return _mapping(text, config)


def _siblings(path: Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []


def _parse(name: str, text: str) -> Recipe:
    head = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        head.append(line.lstrip("#").strip())
    # The head may show the commands that come before; the one that takes the recipe counts.
    lines = (line for line in head if line.startswith("puma ") and "--config" in line)
    usage = next(lines, "")
    return Recipe(name, title=head[0] if head else "", usage=usage, text=text)


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML keeps the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"Line {line}: the key {key.value!r} is given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _mapping(text: str, name: str) -> Mapping[str, Any]:
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{name}{where} is not valid YAML",
            cause=f"{getattr(error, 'problem', None) or error}.",
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.problem}", hint="Keep one of them.") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(
            f"{name} holds no settings",
            cause=f"Its top level is {type(content).__name__}, not names with values.",
            hint="Write lines such as `seed: 1`; --print-config prints a full example.",
        )
    return content
