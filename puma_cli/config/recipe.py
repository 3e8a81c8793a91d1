"""Recipes: commented YAML files that ship with the package, and the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

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
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name.rpartition(".")[0])
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
            hint=did_you_mean(name, recipes) or "`puma recipes list` describes them.",
        )
    return recipes[name]


def read_config(config: str) -> Mapping[str, Any]:
    """Return the settings in a shipped recipe or a YAML file, not yet checked against a command.

    Args:
        config: a recipe's name, or a path; what ends on .yaml or .yml or has a slash is a path.

    Raises:
        ConfigError: no such recipe or file, or its text is no YAML mapping.
    """
    from puma_cli.config.strict_yaml import parse_mapping  # most commands are given no file

    path = Path(config)
    if not config.endswith(_SUFFIXES) and len(path.parts) == 1 and not path.is_file():
        return parse_mapping(find_recipe(config).text, config)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        near = did_you_mean(path.name, _siblings(path))
        raise ConfigError(
            f"Cannot read the configuration {config}",
            cause=str(getattr(error, "strerror", None) or error) + ".",
            hint=near or "`puma recipes list` lists the recipes that --config takes by name.",
        ) from error
    return parse_mapping(text, config)


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
