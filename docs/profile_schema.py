"""Write docs/profile.md, the fields of profile.json, from the records that are written there.

python docs/profile_schema.py docs/profile.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from inspect import getdoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from puma_cli.profiling.profile import FORMAT, LayerProfile

# Where the record lies is no part of the file.
LEFT_OUT = ("LayerProfile", "folder")
PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean"}

HEAD = """\
# profile.json

`puma analyze` writes everything that it measured into one file of JSON, and `read_profile` of
`puma_cli.profiling.profile` reads it back as frozen records. The file begins with
`"format": {format}`; the number grows with every change of a field, and a profile of another number
is refused, not guessed at. `number[]` is a list of numbers, `{{name: number}}` an object with a
number for each name. A decoder of L layers has depths 0 to L: depth 0 is the embeddings alone,
depth L the whole model.
"""


def schema() -> str:
    """Return the page."""
    sections = [HEAD.format(format=FORMAT)]
    for record in records(LayerProfile):
        title = "The file" if record is LayerProfile else record.__name__
        summary, described = explained(record)
        kinds = get_type_hints(record)
        rows = [
            f"| `{field.name}` | {kind(kinds[field.name])} | {described[field.name]} |"
            for field in fields(record)
            if (record.__name__, field.name) != LEFT_OUT
        ]
        table = "\n".join(["| field | value | what it is |", "|---|---|---|", *rows])
        sections.append(f"## {title}\n\n{summary}\n\n{table}\n")
    return "\n".join(sections)


def records(record: Any, seen: set[Any] | None = None) -> Iterator[Any]:
    """Yield a record's class and those that it holds, each once, in order of appearance."""
    seen = set() if seen is None else seen
    if record in seen:
        return
    seen.add(record)
    yield record
    for hint in get_type_hints(record).values():
        for inner in parts(hint):
            if is_dataclass(inner):
                yield from records(inner, seen)


def parts(hint: Any) -> Iterator[Any]:
    """Yield a type and everything within its brackets."""
    yield hint
    for argument in get_args(hint):
        yield from parts(argument)


def kind(hint: Any) -> str:
    """Return what JSON holds for a field of this type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        (known,) = (argument for argument in arguments if argument is not NoneType)
        return f"{kind(known)} or null"
    if origin is tuple:
        inner = kind(arguments[0])
        # Escaped: Markdown takes a pair of brackets after another for a link.
        return f"({inner})\\[]" if " or " in inner else f"{inner}\\[]"
    if origin is dict:
        return f"{{name: {kind(arguments[1])}}}"
    if is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return PLAIN[hint]


def explained(record: Any) -> tuple[str, dict[str, str]]:
    """Return a record's docstring without its fields, and what it says of each of these."""
    summary, _, described = (getdoc(record) or "").partition("\n\nArgs:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", described, flags=re.MULTILINE)
    return summary, {name: in_json(" ".join(text.split())) for name, text in found}


def in_json(text: str) -> str:
    """Return a description with the words that JSON has for Python's."""
    for ours, theirs in (("None", "null"), ("False", "false"), ("True", "true")):
        text = re.sub(rf"\b{ours}\b", theirs, text)
    return text


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema(), encoding="utf-8")
