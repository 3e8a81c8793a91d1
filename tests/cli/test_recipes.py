"""`puma recipes`."""

import json
from pathlib import Path

import pytest

from puma_cli.cli.app import run
from puma_cli.config.recipe import find_recipe

Printed = pytest.CaptureFixture[str]


def test_ls(capsys: Printed) -> None:
    assert run(["recipes", "ls", "--quiet"]) == 0
    assert "demo" in capsys.readouterr().out.split()
    assert run(["recipes", "ls", "--json"]) == 0
    recipes = json.loads(capsys.readouterr().out)["recipes"]
    assert {"name", "command", "title", "usage"} == set(recipes[0])


def test_show_prints_the_file_itself(capsys: Printed) -> None:
    assert run(["recipes", "show", "demo"]) == 0
    assert capsys.readouterr().out == find_recipe("demo").text


def test_cp_makes_a_file_to_change(tmp_path: Path, capsys: Printed) -> None:
    target = tmp_path / "mine.yaml"
    assert run(["recipes", "cp", "demo", str(target)]) == 0
    assert target.read_text(encoding="utf-8") == find_recipe("demo").text
    target.write_text("seed: 1\n", encoding="utf-8")
    assert run(["recipes", "cp", "demo", str(target)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert target.read_text(encoding="utf-8") == "seed: 1\n"
    assert run(["recipes", "cp", "demo", str(target), "--overwrite"]) == 0
    assert run(["recipes", "cp", "demo", str(tmp_path)]) == 0
    assert (tmp_path / "demo.yaml").is_file()


def test_an_unknown_name_gets_a_suggestion(capsys: Printed) -> None:
    assert run(["recipes", "show", "dmo"]) == 2
    assert "Did you mean demo?" in capsys.readouterr().err
