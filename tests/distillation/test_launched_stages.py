"""`puma distill` with a recipe of stages, from the command line, on one process and on two."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from puma_cli.cli.app import run
from tests.distillation.test_launched import finish, same, start, wait_for

Printed = pytest.CaptureFixture[str]
TWO = """
stages:
  - name: first
    loss: {mse: 0.1}
  - name: second
    loss: {contrastive: mac}
    train: {cache_teacher: true, strategy: fsdp2}
"""
# Shorter than a training by itself: there are two of them.
SHORT = ("--steps", "3", "--set", "train.validation_limit=0")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "two.yaml"
    path.write_text(TWO, encoding="utf-8")
    return str(path)


def test_two_processes_stopped_in_a_later_stage_go_on_to_the_same_weights(
    recipe: str, pruned: Path, tiny_checkpoint: Path, tiny_scenes: Path, tmp_path: Path
) -> None:
    folders = (pruned, tiny_checkpoint, tiny_scenes)
    more = (*SHORT, "--config", recipe, "--num-processes", "2")
    whole, output = tmp_path / "whole", tmp_path / "student"
    code, said = finish(start(whole, *folders, *more))
    assert code == 0, said
    # Of several processes, one talks.
    assert said.count("[2/2] Stage second") == said.count("first: trained 3 steps") == 1
    process = start(output, *folders, *more)
    wait_for(lambda: any(output.glob("training/state-0000000[12]")), process)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == 143 and "Stage second: Stopped after step" in said
    assert "Go on with the same command and --resume" in said
    assert not (output / "config.json").exists()
    code, said = finish(start(output, *folders, *more, "--resume", "--json"))
    assert code == 0 and "[1/2] Stage first: done before" in said, said
    told = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert told["finished"] and told["steps"] == 6
    assert [stage["name"] for stage in told["stages"]] == ["first", "second"]
    same(whole, output)


def test_print_config_shows_the_stages_as_a_recipe(
    recipe: str, tmp_path: Path, capsys: Printed
) -> None:
    words = ["distill", "s", "--teacher", "t", "--data", "d", "-o", "o"]
    given = ["--set", "train.steps=5", "--set", "stages.second.train.steps=7", "--config", recipe]
    assert run([*words, *given, "--print-config"]) == 0
    printed = capsys.readouterr().out
    path = tmp_path / "printed.yaml"
    path.write_text(printed, encoding="utf-8")
    assert run(["distill", "--config", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == printed
    assert run([*words, *given, "--print-config", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [stage["train"]["steps"] for stage in content["stages"]] == [5, 7]
    # With a teacher and no word on how to learn from it, each stage takes the paper's weights.
    assert [stage["loss"]["mse"] for stage in content["stages"]] == pytest.approx([0.1, 0.005])


def test_other_commands_say_that_they_run_no_stages(recipe: str, capsys: Printed) -> None:
    assert run(["analyze", "m", "--data", "d", "--config", recipe]) == 2
    assert "`puma distill` runs its stages" in capsys.readouterr().err
