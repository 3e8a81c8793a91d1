"""The help of commands: options in groups that are the same everywhere, examples on one line.

Help is drawn as plain text: importing rich would double the time to the first letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

OWN = "Options"
# An option stands in the same group in every command; what is in none is the command's own.
GROUPS: dict[str, tuple[str, ...]] = {
    "Input": (
        *("--data", "--pairs", "--mmeb", "--images", "--split", "--tasks", "--list-tasks"),
        *("--limit", "--samples", "--pool-size", "--index", "--image", "--queries", "--scores"),
        *("--teacher", "--profile", "--bridge-from", "--query-model", "--candidate-model"),
        *("--id-column", "--text-column", "--image-column", "--metadata", "--side"),
        *("--instruction", "--inputs", "--alone", "--image-side", "--skip-broken"),
        *("--bad-rows", "--bad-images", "--on-bad-image"),
    ),
    "Output": (
        *("--output-dir", "--overwrite", "--html", "--plot", "--format", "--store-dtype"),
        *("--dimensions", "--shard-rows", "--shard-size", "--link", "--full-hash"),
        *("--push-to-hub", "--private"),
    ),
    OWN: (),
    "Device and speed": (
        *("--device", "--dtype", "--batch-size", "--batch-tokens", "--attn", "--image-workers"),
        *("--num-processes", "--cache", "--cache-dir", "--rehash", "--trust-remote-code"),
    ),
    "Settings": ("--config", "--set", "--print-config", "--seed"),
    "General": ("--dry-run", "--yes", "--json", "--quiet", "--debug", "--help"),
}
_WIDEST = 30
_EXAMPLE = "Example: "
# Stand-ins that no line is broken at, until the page is written.
_SPACE, _HYPHEN = "\N{NO-BREAK SPACE}", "\N{NON-BREAKING HYPHEN}"


def group_of(option: Any) -> str:
    """Return the group that an option of a command stands in."""
    return next((group for group, names in GROUPS.items() if {*option.opts} & {*names}), OWN)


def grouped(options: Iterable[Any]) -> dict[str, list[Any]]:
    """Return the visible options of a command by their groups, in the groups' order."""
    shown = [option for option in options if not option.hidden]
    found = {group: [o for o in shown if group_of(o) == group] for group in GROUPS}
    return {group: members for group, members in found.items() if members}


def usage_of(argument: Any) -> str:
    """Return an argument as the usage line has it: in brackets what may be left out."""
    name = argument.metavar or argument.name.upper()
    return f"{name}..." if argument.nargs != 1 and not name.endswith("...") else str(name)


def text_and_example(text: str) -> tuple[list[str], str]:
    """Return the paragraphs of a command's help, and its example without the word."""
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    example = next((part for part in parts if part.startswith(_EXAMPLE)), "")
    said = [part for part in parts if part and part != example]
    return said, example.removeprefix(_EXAMPLE)


class _Page:
    """The parts of a page that commands and groups of them draw in the same way."""

    help: str | None

    def collect_usage_pieces(self: Any, ctx: Any) -> list[str]:
        params = [p for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return [*map(usage_of, params), self.options_metavar]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        said, example = text_and_example(self.help or "")
        for part in said:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(part)
        if example:
            # Never wrapped: half a command cannot be pasted.
            with formatter.section(_EXAMPLE.strip(": ")):
                formatter.write(f"  {example}\n")

    def get_help(self, ctx: Any) -> str:
        text = super().get_help(ctx)  # type: ignore[misc]
        return str(text).replace(_SPACE, " ").replace(_HYPHEN, "-")

    def _format_options(self: Any, ctx: Any, formatter: Any) -> None:
        params = self.get_params(ctx)
        arguments = [p for p in params if p.param_type_name == "argument" and not p.hidden]
        sections = {"Arguments": [_argument(param, ctx) for param in arguments]}
        options = grouped(p for p in params if p.param_type_name == "option")
        for group, members in options.items():
            sections[group] = [_whole(*option.get_help_record(ctx)) for option in members]
        _write(formatter, sections)


class Command(_Page, TyperCommand):
    """A command whose help has its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self._format_options(ctx, formatter)


class Group(_Page, TyperGroup):
    """A group of commands, which stand under the headings they were registered with."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["COMMAND", "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in commands:
            if not command.hidden:
                heading = getattr(command, "rich_help_panel", None)
                rows = sections.setdefault(heading if heading else "Commands", [])
                rows.append((name, command.get_short_help_str(limit=200)))
        _write(formatter, sections)
        self._format_options(ctx, formatter)


def _argument(param: Any, ctx: Any) -> tuple[str, str]:
    # Without the type of Python that is read from it, and without what the usage line says.
    return _whole(usage_of(param), param.help or "")


def _whole(name: str, text: str) -> tuple[str, str]:
    """Return a row whose default, if it is short, stands on one line."""
    said, bracket, default = text.rpartition("[default: ")
    if not bracket or len(default) > _WIDEST:
        return name, text
    kept = (bracket + default).replace(" ", _SPACE).replace("-", _HYPHEN)
    return name, said + kept


def _write(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Write sections whose second columns begin at the same place."""
    names = [name for rows in sections.values() for name, _ in rows]
    width = max((len(name) for name in names if len(name) <= _WIDEST), default=0)
    for heading, rows in sections.items():
        if rows:
            with formatter.section(heading):
                formatter.write_dl(_padded(rows, width), col_max=width)


def _padded(rows: Sequence[tuple[str, str]], width: int) -> list[tuple[str, str]]:
    return [(name.ljust(width), text) for name, text in rows]
