"""Every shipped recipe trains a tiny model: the command in its head, in few and small steps.

A recipe that is added is run here too, as its head says.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.cli.app import run
from puma_cli.config.changes import flattened
from puma_cli.config.recipe import Recipe, list_recipes, read_config
from puma_cli.distillation.log import read_log
from puma_cli.models.opening import load
from tests.data.pairs.writing import texts, write_table

# What is made small; everything else is the recipe's own, which the test looks for in the result.
SMALL = {
    "train.steps": "2",
    "train.validate_every": "2",
    "train.validation_limit": "1",
    "batch.size": "8",
}
# Chunks are made small where a recipe has them, so that a tiny batch still divides.
CHUNKED = {"batch.chunk_tokens": "300"}
FRESH = {
    "fresh.hidden_size": "32",
    "fresh.layers": "2",
    "fresh.heads": "2",
    "fresh.key_value_heads": "1",
    "fresh.intermediate_size": "48",
    "fresh.vocabulary": "320",
    "fresh.vision_size": "32",
    "fresh.vision_layers": "1",
    "fresh.vision_heads": "2",
}


@pytest.fixture(scope="module")
def tiny_checkpoint(wide_checkpoint: Path) -> Path:
    """One that can be quantised as well, in place of the one that other tests use."""
    return wide_checkpoint


@pytest.fixture(scope="module")
def inputs(
    pruned: Path, tiny_checkpoint: Path, tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What stands for the names in the recipes' commands."""
    pairs = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_table(pairs, texts(40))
    scenes, cut = str(tiny_scenes), str(pruned)
    return {
        **dict.fromkeys(("MODEL", "puma-mini"), str(tiny_checkpoint)),
        **dict.fromkeys(("DATA", "M-BEIR", "scenes", "many-scenes"), scenes),
        **dict.fromkeys(("pruned", "student"), cut),
        "NLI": str(pairs),
    }


def words_of(recipe: Recipe, inputs: dict[str, str], output: Path) -> list[str]:
    """Return the words of the recipe's own command, for tiny inputs."""
    words = shlex.split(recipe.usage)[1:]
    for place, word in enumerate(words):
        before = words[place - 1]
        name, equals, value = word.rpartition("=")
        if before in ("-o", "--output-dir"):
            words[place] = str(output)
        elif before == "--num-processes":
            words[place] = "2"
        elif before != "--config" and value in inputs:
            words[place] = f"{name}{equals}{inputs[value]}"
    return words


def small_for(content: dict[str, Any]) -> dict[str, str]:
    small = dict(SMALL)
    if "batch.chunk_tokens" in flattened(content):
        small |= CHUNKED
    if "fresh" in content:
        small |= FRESH
    return small


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_trains(
    recipe: Recipe, inputs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = dict(read_config(recipe.name))
    if content.get("lora", {}).get("quantize") == "nf4" and find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    small = small_for(content)
    output = tmp_path / "out"
    words = words_of(recipe, inputs, output)
    words += ["--device", "cpu", *(f"--set={name}={value}" for name, value in small.items())]
    if "--num-processes" in words:
        command = [sys.executable, "-m", "puma_cli", *words]
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        code, said = done.returncode, done.stderr
    else:
        code = run(words)
        said = capsys.readouterr().err
    assert code == 0, said
    assert "2 processes" in said or "--num-processes" not in words
    found = read_provenance(output)
    assert found is not None and found.results["progress"]["step"] == 2
    stages = content.pop("stages", [{}])
    trained = [*(stage["settings"] for stage in found.earlier_stages), found.settings]
    assert len(trained) == len(stages)
    for settings, stage in zip(trained, stages, strict=True):
        own = {key: value for key, value in stage.items() if key != "name"}
        expected = flattened(content) | flattened(own)
        used = flattened(settings)
        for name, value in expected.items():
            assert name in small or used[name] == pytest.approx(value), name
    assert load(output, "cpu").depth == 2
    if "batch.chunk_tokens" in small:
        assert max(row.get("chunks", 0) for row in read_log(output / "log.jsonl")) > 1
