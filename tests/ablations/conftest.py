"""A question small enough to be answered, on a tiny random model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Benchmarks are no package.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

SETUP = """
data:
  tiny:
    {model: tiny, recipe: RECIPE, cut: first 2, variable: TINY_SCENES, seeds: [0, 1]}
models:
  tiny: {variable: TINY_MODEL}
"""
RECIPE = """
loss: {contrastive: info_nce, contrastive_weight: 0.5, symmetric: true, cosine: 5.0}
batch: {size: 8, grouping: task}
optimizer: {learning_rate: 1.0e-3}
train:
  steps: 3
  validate_every: 100
  validation_limit: 0
  cache_teacher: true
  trackers: [none]
"""
QUESTION = """
title: Does a teacher help?
data: {tiny: {}}
baseline: nobody
variants:
  nobody: {teacher: none, set: {loss.contrastive_weight: 1.0}}
  taught: {}
  "untrained": {train: none}
test: [taught]
"""


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the seconds that the pages of trainings take."""
    from puma_cli.distillation.live_page import LivePage

    monkeypatch.setattr(LivePage, "draw", lambda self: None)


@pytest.fixture
def asked(
    tmp_path: Path, tiny_scenes: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with a setup, a recipe and one question."""
    monkeypatch.setenv("TINY_SCENES", str(tiny_scenes))
    monkeypatch.setenv("TINY_MODEL", str(tiny_checkpoint))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    (tmp_path / "setup.yaml").write_text(SETUP.replace("RECIPE", str(recipe)))
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "x.yaml").write_text(QUESTION)
    return tmp_path


@pytest.fixture
def words(asked: Path) -> list[str]:
    """What comes before the command."""
    return ["--questions", str(asked / "questions"), "--setup", str(asked / "setup.yaml")]
