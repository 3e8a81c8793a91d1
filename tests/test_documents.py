"""Every `puma` command in the documents can be typed as it stands."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from puma_cli.cli.app import run
from puma_cli.config.recipe import list_recipes

ROOT = Path(__file__).resolve().parent.parent
WITH_SETTINGS = {
    *("analyze", "bench", "prune", "mine", "distill", "eval", "export", "demo"),
    *("embed", "search"),
}


def _commands() -> list[str]:
    """Return the lines that start with `puma` inside fenced blocks, and those heading recipes."""
    texts = [recipe.usage for recipe in list_recipes()]
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        for block in re.findall(r"```\w*\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            joined = block.replace("\\\n", " ")
            texts += [line for line in joined.splitlines() if re.match("puma [a-z]", line)]
    return sorted({re.sub(r"\s+#.*", "", text) for text in texts})


@pytest.mark.parametrize("command", _commands())
def test_the_command_exists_with_these_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)[1:]
    # Printing the settings checks names and values; help, in the rest, checks the names.
    check = "--print-config" if words[0] in WITH_SETTINGS else "--help"
    assert run([*words, check]) == 0, capsys.readouterr().err


def test_relative_links_lead_somewhere() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "site" / "hooks.py"))["made_pages"]()
    pages = {(ROOT / "docs" / page).resolve() for page in made}
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                place = (path.parent / target).resolve()
                assert place.exists() or place in pages, f"{path.name}: {target}"


def test_the_fields_of_a_profile_are_those_that_are_written() -> None:
    page = ROOT / "docs" / "profile.md"
    made = runpy.run_path(str(ROOT / "docs" / "profile_schema.py"))["schema"]()
    assert page.read_text(encoding="utf-8") == made, "python docs/profile_schema.py docs/profile.md"
