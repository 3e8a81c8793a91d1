"""The shipped recipes: every one says what it is for and loads."""

import shlex

import pytest

from puma_cli.config.loading import load_settings, paths_of
from puma_cli.config.recipe import Recipe, find_recipe, list_recipes
from puma_cli.config.settings import AnalyzeSettings, EvaluateSettings, MineSettings, PruneSettings
from puma_cli.config.stages import load_stages
from puma_cli.config.training_settings import DistillSettings
from puma_cli.errors import ConfigError

SETTINGS: dict[str, type] = {
    "analyze": AnalyzeSettings,
    "prune": PruneSettings,
    "distill": DistillSettings,
    "eval": EvaluateSettings,
    "mine": MineSettings,
}


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_names_its_command_and_loads(recipe: Recipe) -> None:
    assert recipe.title.endswith(".")
    words = shlex.split(recipe.usage)
    assert words[0] == "puma"
    assert words[words.index("--config") + 1] == recipe.name
    needed = {"model": "m", "student": "s", "teacher": "t", "data": "d", "output_dir": "o"}
    cls = SETTINGS[recipe.command]
    flags = {name: value for name, value in needed.items() if name in paths_of(cls)}
    stages = load_stages(config=recipe.name, flags=flags) if cls is DistillSettings else ()
    if not stages:
        load_settings(cls, config=recipe.name, flags=flags)


def test_the_paper_s_stages_are_those_that_can_be_run_alone() -> None:
    flags = {"student": "s", "teacher": "t", "data": "d", "output_dir": "o"}
    first, second = load_stages(config="paper", flags=flags)
    alone = load_settings(DistillSettings, config="paper-stage1", flags=flags)
    assert first.settings == alone
    alone = load_settings(DistillSettings, config="paper-stage2", flags=flags | {"teacher": None})
    assert second.settings == alone


def test_fast_is_a_quarter_of_the_default() -> None:
    flags = {"student": "s", "teacher": "t", "data": "d", "output_dir": "o"}
    default, fast = (
        load_settings(DistillSettings, config=name, flags=flags) for name in ("default", "fast")
    )
    assert fast.train.epochs == default.train.epochs / 4
    assert fast.loss == default.loss and fast.lora == default.lora
    assert fast.batch == default.batch


def test_the_demos_recipes_ship() -> None:
    assert {"demo", "demo-fast"} <= {recipe.name for recipe in list_recipes()}


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        find_recipe("demos")
    assert "demo" in caught.value.cause
    assert "Did you mean demo?" in caught.value.hint
