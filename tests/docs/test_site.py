"""The documentation site: pages made from the command line, and a build without a warning."""

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from puma_cli.cli.app import app
from puma_cli.cli.help_page import grouped
from puma_cli.config.recipe import list_recipes

ROOT = Path(__file__).resolve().parent.parent.parent
HOOKS = runpy.run_path(str(ROOT / "docs" / "site" / "hooks.py"))


def _commands() -> Iterator[tuple[str, Any, str]]:
    """Yield the path, the command and the page of every command and sub-command."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        yield f"puma {name}", command, f"commands/{name}.md"
        for sub, inner in getattr(command, "commands", {}).items():
            yield f"puma {name} {sub}", inner, f"commands/{name}.md"


def _section(page: str, title: str) -> str:
    """Return what stands below a heading, down to the next one."""
    (found,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page, re.M | re.S)
    return str(found)


@pytest.mark.parametrize(("name", "command", "path"), list(_commands()))
def test_a_page_has_the_options_and_arguments_of_the_command(
    name: str, command: Any, path: str
) -> None:
    section = _section(HOOKS["command_pages"]()[path], name)
    rows = [line for line in section.splitlines() if line.startswith("| `-")]
    listed = [set(re.findall(r"`(--?[\w-]+)`", row.split(" | ")[0])) for row in rows]
    params = [p for p in command.params if p.param_type_name == "option"]
    groups = grouped(params)
    options = [option for members in groups.values() for option in members]
    assert len(options) == sum(not param.hidden for param in params)
    assert re.findall(r"^\| ([A-Z][a-z ]+) \| \| default \|$", section, re.M) == list(groups)
    assert listed == [{*p.opts, *p.secondary_opts} for p in options]
    for option, row in zip(options, rows, strict=True):
        said = re.sub(r"\s*\[default: .*", "", " ".join((option.help or "").split()))
        assert _plain(row).startswith(_plain(said), _plain(row).index(_plain(said)[:20]))
    for argument in (p for p in command.params if p.param_type_name == "argument"):
        assert f"| `{argument.metavar}` |" in section
    example = re.search(r"Example: (puma .*)", " ".join((command.help or "").split()))
    assert example is None or f"```\n{example[1]}\n```" in section


def _plain(text: str) -> str:
    return re.sub(r"[\\`|\s]", "", text)


def test_every_command_and_recipe_is_listed() -> None:
    pages = HOOKS["made_pages"]()
    for name, _, path in _commands():
        assert path in pages
        if name.count(" ") == 1:
            assert f"[`{name}`]({Path(path).name})" in pages["commands/index.md"]
    for recipe in list_recipes():
        assert f"## {recipe.name}\n\n```yaml\n{recipe.text.rstrip()}\n" in pages["recipes.md"]
        assert f"(#{recipe.name})" in pages["recipes.md"]
    assert pages == HOOKS["made_pages"]()


@pytest.mark.parametrize(
    ("text", "source", "page", "expected"),
    [
        ("[a](docs/eval.md#mmeb)", "CHANGELOG.md", "changelog.md", "[a](eval.md#mmeb)"),
        ("[a](CHANGELOG.md)", "CONTRIBUTING.md", "contributing.md", "[a](changelog.md)"),
        ("[a](../../docs/eval.md)", "examples/x/R.md", "results/r.md", "[a](../eval.md)"),
        ("[a](student.yaml) [b]", "examples/x/R.md", "results/r.md", "a [b]"),
        ("[a](https://x.org/y.md)", "CHANGELOG.md", "changelog.md", "[a](https://x.org/y.md)"),
    ],
)
def test_links_of_files_outside_lead_to_pages(
    text: str, source: str, page: str, expected: str
) -> None:
    assert HOOKS["relinked"](text, source, page) == expected


def test_the_site_builds_strictly_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:script|img|iframe|link)\b[^>]*>", text):
            # Where a page lies is no request.
            if 'rel="canonical"' not in tag:
                assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), f"{page}: {tag}"
    api = (tmp_path / "api.html").read_text(encoding="utf-8")
    assert "price_per_hour" in api
