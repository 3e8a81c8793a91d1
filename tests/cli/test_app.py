"""Help, versions and usage errors of the command line."""

import re
from dataclasses import MISSING, fields
from typing import Any

import pytest

from puma_cli.cli.app import run
from puma_cli.config.settings import (
    AnalyzeSettings,
    DemoSettings,
    EvaluateSettings,
    MineSettings,
    PruneSettings,
)
from puma_cli.config.training_settings import DistillSettings
from puma_cli.version import __version__

Printed = pytest.CaptureFixture[str]

COMMANDS = {
    "analyze": AnalyzeSettings,
    "prune": PruneSettings,
    "mine": MineSettings,
    "distill": DistillSettings,
    "eval": EvaluateSettings,
    "demo": DemoSettings,
}


def test_version(capsys: Printed) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"puma {__version__}\n"


def test_help_lists_every_command_in_full(capsys: Printed) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name in [*COMMANDS, "compare", "info", "data", "recipes"]:
        assert re.search(rf"^  {name} ", text, flags=re.MULTILINE)
    assert "..." not in text.partition("Start here:")[2]


@pytest.mark.parametrize("args", [[], ["data"], ["recipes"]], ids=["puma", "data", "recipes"])
def test_a_bare_group_shows_its_help_as_a_usage_error(args: list[str], capsys: Printed) -> None:
    assert run(args) == 2
    text = capsys.readouterr().err
    assert "Usage: " in text
    assert re.search(r"^  (demo|scenes|list) +[A-Z]", text, flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_settings_own_defaults(command: str, capsys: Printed) -> None:
    assert run([command, "--help"]) == 0
    page = re.split(r"^(?:Input|Output):$", capsys.readouterr().out, maxsplit=1, flags=re.MULTILINE)
    options = " ".join(page[1].split())
    for field in fields(COMMANDS[command]):
        option = "--" + field.name.replace("_", "-")
        default: Any = field.default
        if default in (MISSING, None, False, "") or f"{option} " not in options:
            continue
        described = options.partition(f"{option} ")[2].lstrip("/ ").removeprefix("--no-")
        described = described.partition(" --")[0]
        shown = {True: field.name.replace("_", "-"), ("local", "union"): "both", -1: "auto"}.get(
            default, str(default)
        )
        assert f"[default: {shown}]" in described, option


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["analyse"], ["analyse", "Did you mean", "analyze"]),
        (["prune", "m", "--kepe", "3"], ["--kepe", "Did you mean --keep?", "puma prune --help"]),
        (["--hlep"], ["no option --hlep", "Did you mean --help?"]),
        (["prune", "m"], ["--output-dir", "For example: puma prune puma-mini --keep 4"]),
        (["prune", "m", "--keep", "three"], ["--keep", "integer"]),
        (["info"], ["FOLDER", "For example: puma info puma-mini"]),
        (["compare"], ["FOLDER"]),
        (["data", "scenes"], ["--output-dir"]),
        (["eval", "m", "--set"], ["--set"]),
        (["eval", "m", "extra"], ["extra"]),
        (["eval", "m", "--data", "d", "--split", "tset"], ["split = tset", "Did you mean test?"]),
        (["eval"], ["Missing: MODEL, --data\n"]),
        (["analyze"], ["Missing: MODEL, --data\n"]),
        (["mine"], ["Missing: MODEL, --data\n"]),
        (["embed"], ["Missing: MODEL, INPUT...\n"]),
        (["bench"], ["Missing: MODEL...\n"]),
        (["distill", "s", "--config", "dem"], ["no recipe called 'dem'", "Did you mean demo?"]),
        (["demo", "--set", "kep=3"], ["Did you mean keep?"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].islower() else "",
)
def test_usage_errors_exit_with_2_and_say_what_to_type(
    args: list[str], words: list[str], capsys: Printed
) -> None:
    assert run(args) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Error: ")
    for word in words:
        assert word in printed.err
    assert "Traceback" not in printed.err
