"""What mkdocs adds to the pages of `docs/`: those made from the command line, recipes and files.

Pages are made anew in every build, so none can be out of step.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import typer

from puma_cli.cli.app import app
from puma_cli.cli.help_page import grouped, text_and_example, usage_of
from puma_cli.config.recipe import list_recipes

ROOT = Path(__file__).resolve().parent.parent.parent
# Files outside of docs/ that are pages of the site.
OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "puma_cli/models/puma_mini/README.md": "results/puma-mini.md",
    "examples/emoji/README.md": "results/emoji-data.md",
    "benchmarks/ablations/README.md": "results/ablation-runs.md",
    "benchmarks/prune/README.md": "results/prune-benchmarks.md",
}
_LINK = re.compile(r"\[([^\[\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")
_DEFAULT = re.compile(r"\s*\[default: ([^\]]*)\]\.?$")


def made_pages() -> dict[str, str]:
    """Return every page that is made, by its path below docs/."""
    pages = {"recipes.md": recipes_page(), **command_pages()}
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        pages[page] = relinked(text, source, page)
    return pages


def command_pages() -> dict[str, str]:
    """Return a page for each command, and one that lists them."""
    root = typer.main.get_command(app)
    commands = root.commands  # type: ignore[attr-defined]
    rows = [f"| [`puma {name}`]({name}.md) | {_first(c)} |" for name, c in commands.items()]
    index = [
        "# Commands",
        "",
        "Made from the command line itself: what `puma COMMAND --help` says.",
        "",
        "| | |",
        "|---|---|",
        *rows,
        "",
        "`puma --install-completion` makes Tab complete commands and options "
        "([how](../quickstart.md#completion)).",
    ]
    pages = {"commands/index.md": "\n".join(index) + "\n"}
    for name, command in commands.items():
        pages[f"commands/{name}.md"] = "\n".join(_command(command, f"puma {name}", 1)) + "\n"
    return pages


def recipes_page() -> str:
    """Return the page of recipes, each in full."""
    recipes = list_recipes()
    parts = [
        "# Recipes",
        "",
        "What `--config NAME` takes, in full. `puma recipes copy NAME mine.yaml` gives you one to "
        "change; [which is for whom](distill.md#how-to-choose-a-recipe).",
        "",
        "| recipe | |",
        "|---|---|",
        *(f"| [`{recipe.name}`](#{recipe.name}) | {recipe.title} |" for recipe in recipes),
    ]
    for recipe in recipes:
        parts += ["", f"## {recipe.name}", "", "```yaml", recipe.text.rstrip("\n"), "```"]
    return "\n".join(parts) + "\n"


def relinked(text: str, source: str, page: str) -> str:
    """Return text whose links, which hold for a file of the repository, hold for its page.

    Links to files that are no pages become plain text.

    Args:
        source: path of the file, from the root of the repository.
        page: path of the page, from docs/.
    """

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        found = path.removeprefix("docs/") if path.startswith("docs/") else OUTSIDE.get(path)
        if found is None or not found.endswith((".md", ".png")):
            return label
        return f"[{label}]({posixpath.relpath(found, posixpath.dirname(page) or '.')}{anchor})"

    return _LINK.sub(link, text)


def on_config(config: Any) -> Any:
    """Name the pages of commands and of results in the navigation (a hook of mkdocs)."""
    names = sorted(path.name for path in (ROOT / "docs" / "results").glob("*.md"))
    names += sorted(posixpath.basename(p) for p in OUTSIDE.values() if p.startswith("results/"))
    results = [f"results/{name}" for name in names if name != "README.md"]
    commands = [{posixpath.basename(p)[:-3]: p} for p in command_pages() if "index" not in p]
    _append(config["nav"], "commands/index.md", commands)
    _append(config["nav"], "results/README.md", results)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the made pages (a hook of mkdocs)."""
    from mkdocs.structure.files import File

    for path, content in made_pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links that leave docs/ to the pages of those files (a hook of mkdocs)."""
    source = page.file.src_uri

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), match[2]))
        if path not in OUTSIDE:
            return match[0]
        start = posixpath.dirname(source) or "."
        return f"[{match[1]}]({posixpath.relpath(OUTSIDE[path], start)}{match[3] or ''})"

    return _LINK.sub(link, markdown)


def _append(nav: list[Any], first: str, entries: list[Any]) -> None:
    """Append entries to the section of the navigation that begins with a page."""
    if nav and nav[0] == first:
        nav.extend(entries)
        return
    for entry in nav:
        for inner in entry.values() if isinstance(entry, dict) else ():
            if isinstance(inner, list):
                _append(inner, first, entries)


def _command(command: Any, name: str, level: int) -> list[str]:
    """Return the lines of a command's page, those of its sub-commands below it."""
    said, example = _help(command)
    lines = [f"{'#' * level} {name}", "", *said, ""]
    if example:
        lines += ["```", example, "```", ""]
    lines += ["```text", _usage(command, name), "```", ""]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = grouped(p for p in command.params if p.param_type_name == "option")
    if arguments:
        lines += ["| argument | |", "|---|---|"]
        lines += [f"| `{p.metavar or p.name.upper()}` | {_cell(p.help)} |" for p in arguments]
        lines.append("")
    for group, members in options.items():
        lines += [f"| {group} | | default |", "|---|---|---|", *map(_option, members), ""]
    for sub, entry in getattr(command, "commands", {}).items():
        lines += _command(entry, f"{name} {sub}", level + 1)
    return lines


def _help(command: Any) -> tuple[list[str], str]:
    """Return what a command says of itself, and its example."""
    said, example = text_and_example(command.help or "")
    return "\n\n".join(map(_escaped, said)).split("\n"), example


def _first(command: Any) -> str:
    return _cell((command.help or "").split("\n\n")[0])


def _usage(command: Any, name: str) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    parts = [name, *(["COMMAND"] if getattr(command, "commands", None) else [])]
    return " ".join([*parts, *map(usage_of, arguments), "[OPTIONS]"])


def _option(param: Any) -> str:
    said = " ".join((param.help or "").split())
    match = _DEFAULT.search(said)
    default = match[1] if match else ""
    if not match and param.show_default and param.default not in (None, False, (), []):
        default = str(param.default)
    # As in the help, the short form first.
    names = sorted((*param.opts, *param.secondary_opts), key=len)
    shown = ", ".join(f"`{name}`" for name in names)
    if not param.is_flag:
        shown += f" `{param.metavar or 'VALUE'}`"
    return f"| {shown} | {_cell(_DEFAULT.sub('', said))} | {_cell(default)} |"


def _cell(text: str | None) -> str:
    return _escaped(" ".join((text or "").split())).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Return plain text as Markdown; `backticks` stay code."""
    parts = text.split("`")
    return "`".join(
        part if number % 2 else re.sub(r"([*_<>\[\]])", r"\\\1", part)
        for number, part in enumerate(parts)
    )
