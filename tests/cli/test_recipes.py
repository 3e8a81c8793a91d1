"""`puma recipes`."""

import json
from pathlib import Path

import pytest

from puma_cli.cli.app import run
from puma_cli.config.recipe import find_recipe, list_recipes

Printed = pytest.CaptureFixture[str]


def test_list(capsys: Printed) -> None:
    assert run(["recipes", "list", "--quiet"]) == 0
    assert "demo" in capsys.readouterr().out.split()
    assert run(["recipes", "list", "--json"]) == 0
    recipes = json.loads(capsys.readouterr().out)["recipes"]
    assert {"name", "command", "title", "usage"} == set(recipes[0])


def test_the_table_says_what_each_recipe_is_for(capsys: Printed) -> None:
    assert run(["recipes", "list"]) == 0
    table = capsys.readouterr().out
    for recipe in list_recipes():
        first = recipe.text.splitlines()[0].removeprefix("# ")
        (line,) = [row for row in table.splitlines() if row.split()[:1] == [recipe.name]]
        assert line.split()[1] == "distill" and first in line


@pytest.mark.parametrize("words", [["ls"], ["cp", "demo", "mine.yaml"]])
def test_the_shell_s_short_names_do_the_same(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["recipes", *words]) == 0
    assert (tmp_path / "mine.yaml").exists() == (words[0] == "cp")


def test_show_prints_the_file_itself(capsys: Printed) -> None:
    assert run(["recipes", "show", "demo"]) == 0
    assert capsys.readouterr().out == find_recipe("demo").text


def test_copy_makes_a_file_to_change(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "mine.yaml"
    assert run(["recipes", "copy", "demo", str(target)]) == 0
    assert target.read_text(encoding="utf-8") == find_recipe("demo").text
    target.write_text("seed: 1\n", encoding="utf-8")
    assert run(["recipes", "copy", "demo", str(target)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert target.read_text(encoding="utf-8") == "seed: 1\n"
    assert run(["recipes", "copy", "demo", str(target), "--overwrite"]) == 0
    assert target.read_text(encoding="utf-8") == find_recipe("demo").text
    assert run(["recipes", "copy", "demo", str(tmp_path)]) == 0
    assert (tmp_path / "demo.yaml").is_file()
    monkeypatch.chdir(tmp_path)
    assert run(["recipes", "copy", "paper"]) == 0
    assert Path("paper.yaml").read_text(encoding="utf-8") == find_recipe("paper").text


def test_a_copy_s_missing_folder_is_named(tmp_path: Path, capsys: Printed) -> None:
    assert run(["recipes", "copy", "paper", str(tmp_path / "nowhere" / "mine.yaml")]) == 1
    assert f"The folder `{tmp_path / 'nowhere'}` does not exist." in capsys.readouterr().err


def test_an_unknown_name_gets_a_suggestion(capsys: Printed) -> None:
    assert run(["recipes", "show", "dmo"]) == 2
    assert "Did you mean demo?" in capsys.readouterr().err
