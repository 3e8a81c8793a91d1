"""Reading YAML that means what it says: one mapping, no key twice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from puma_cli.errors import ConfigError


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


def parse_mapping(text: str, name: str) -> Mapping[str, Any]:
    """Return the mapping that a YAML text holds, empty for an empty text.

    Args:
        name: what the text is called in errors.

    Raises:
        ConfigError: it is no YAML, no mapping, or gives a key twice.
    """
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
