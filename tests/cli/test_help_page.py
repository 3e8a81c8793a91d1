"""The help of every command: groups, an example that runs as written, nothing cut or broken."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from puma_cli.cli.app import app, run
from puma_cli.cli.help_page import GROUPS, OWN, grouped, usage_of

Printed = pytest.CaptureFixture[str]


def _commands() -> Iterator[tuple[str, Any]]:
    """Yield the words and the command of every command, groups left out."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        for sub, entry in (inner or {}).items():
            if not entry.hidden:
                yield f"{name} {sub}", entry


ALL = dict(_commands())


def _options(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "option" and not p.hidden]


def _help(words: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*words.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["", "data", "cache", "recipes", *ALL])
def test_a_page_fits_80_columns(
    name: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = _help(name, capsys, monkeypatch)
    assert text.startswith(f"Usage: puma {name}".rstrip())
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()


@pytest.mark.parametrize("name", list(ALL))
def test_every_option_stands_in_its_group(
    name: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = _help(name, capsys, monkeypatch)
    groups = grouped(_options(ALL[name]))
    headings = re.findall(r"^([A-Z][a-z ]+):$", text, flags=re.MULTILINE)
    assert [heading for heading in headings if heading in GROUPS] == [
        *(group for group in groups if group != "General"),
        "General",
    ]
    for group, members in groups.items():
        section = re.split(r"^[A-Z]", text.partition(f"\n{group}:\n")[2], flags=re.MULTILINE)[0]
        for option in members:
            assert re.search(rf"{option.opts[0]}[ ,\n]", section), option.opts


@pytest.mark.parametrize("name", list(ALL))
def test_the_example_is_a_command_that_parses(
    name: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = _help(name, capsys, monkeypatch)
    (line,) = re.findall(r"^Example:\n  (.+)$", text, flags=re.MULTILINE)
    words = shlex.split(line)
    assert words[: 1 + len(name.split())] == ["puma", *name.split()]
    context = ALL[name].make_context(name, words[1 + len(name.split()) :])
    assert not context.args


def test_groups_name_options_that_exist_and_each_once() -> None:
    named = [option for options in GROUPS.values() for option in options]
    known = {name for command in ALL.values() for o in _options(command) for name in o.opts}
    assert len(named) == len(set(named))
    assert set(named) - {"--help"} <= known
    assert GROUPS[OWN] == ()


def test_shared_options_are_called_the_same_everywhere() -> None:
    for name, command in ALL.items():
        spelled = {o.name: set(o.opts) for o in _options(command)}
        for parameter, names in {
            "json_output": {"--json"},
            "quiet": {"--quiet", "-q"},
            "debug": {"--debug"},
        }.items():
            assert spelled[parameter] == names, name
        assert spelled.get("output_dir", {"--output-dir", "-o"}) == {"--output-dir", "-o"}, name
        assert spelled.get("overrides", {"--set"}) == {"--set"}, name


def test_a_short_default_is_never_broken_across_lines(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = _help("analyze", capsys, monkeypatch)
    assert "[default: profile-MODEL]" in text
    assert text.count("[default:") == len(re.findall(r"\[default: [^\]\n]+\]", text))


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("recipes copy", "NAME [FILE]"),
        ("search", "MODEL [TEXT]..."),
        ("embed", "MODEL INPUT..."),
        ("compare", "FOLDER..."),
        ("doctor", ""),
    ],
)
def test_brackets_say_what_may_be_left_out(name: str, usage: str) -> None:
    arguments = [p for p in ALL[name].params if p.param_type_name == "argument"]
    assert " ".join(map(usage_of, arguments)) == usage
