"""Settings from recipes, files, --set and flags: their order of strength and their errors."""

from pathlib import Path

import pytest
import yaml

from puma_cli.checkpoint.provenance import to_plain
from puma_cli.config.loading import load_settings, paths_of
from puma_cli.config.settings import AnalyzeSettings, EvaluateSettings, MineSettings, PruneSettings
from puma_cli.config.training_settings import DistillSettings
from puma_cli.errors import ConfigError

NEEDED = {"student": "pruned", "data": Path("d"), "output_dir": Path("o")}


def _file(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_flags_beat_set_and_set_beats_the_file(tmp_path: Path) -> None:
    config = _file(tmp_path, "seed: 1\ntrain:\n  steps: 10\n  validate_every: 5\n")
    settings = load_settings(
        DistillSettings,
        config=config,
        overrides=["seed=2", "train.steps=20"],
        flags={**NEEDED, "seed": 3},
    )
    assert settings.seed == 3
    assert settings.train.steps == 20
    assert settings.train.validate_every == 5
    assert settings.train.epochs == 2.0


def test_a_flag_that_is_none_was_not_given() -> None:
    settings = load_settings(DistillSettings, overrides=["seed=2"], flags={**NEEDED, "seed": None})
    assert settings.seed == 2


def test_the_later_assignment_wins() -> None:
    settings = load_settings(DistillSettings, overrides=["seed=2", "seed=5"], flags=NEEDED)
    assert settings.seed == 5


def test_complete_fills_only_what_nobody_set() -> None:
    given = {"model": "m", "data": "d", "split": "val"}
    settings = load_settings(
        EvaluateSettings,
        flags=given,
        complete=lambda tree: {"output_dir": f"of-{tree['model']}", "split": "test"},
    )
    assert settings.output_dir == Path("of-m")
    assert settings.split == "val"


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("optimizer.learning_rate=1e-4", "optimizer.learning_rate", 1e-4),
        ("loss.symmetric=yes", "loss.symmetric", True),
        ("train.steps=none", "train.steps", None),
        ("stop_after=90", "stop_after", 90.0),
        ("tasks=*_task0", "tasks", "*_task0"),
        ("data = somewhere/else", "data", Path("somewhere/else")),
    ],
)
def test_text_becomes_the_fields_type(assignment: str, path: str, value: object) -> None:
    settings: object = load_settings(
        DistillSettings,
        overrides=[assignment],
        flags={k: v for k, v in NEEDED.items() if k != path},
    )
    for part in path.split("."):
        settings = getattr(settings, part)
    assert settings == value
    assert type(settings) is type(value) or isinstance(value, Path)


def test_a_list_is_read_from_text_and_from_yaml(tmp_path: Path) -> None:
    flags = {"model": "m", "data": "d", "output_dir": "o"}
    by_text = load_settings(EvaluateSettings, overrides=["pools=union"], flags=flags)
    by_file = load_settings(
        EvaluateSettings, config=_file(tmp_path, "pools: [union, local]"), flags=flags
    )
    assert by_text.pools == ("union",)
    assert by_file.pools == ("union", "local")


def test_yaml_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    config = _file(tmp_path, "optimizer:\n  learning_rate: 1e-3\n")
    settings = load_settings(DistillSettings, config=config, flags=NEEDED)
    assert settings.optimizer.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("temperature=1", ["temperature", "Did you mean loss.temperature?"]),
        ("loss.temprature=1", ["Did you mean loss.temperature?"]),
        ("nothing_like_it=1", ["Unknown setting", "Known settings", "optimizer.clip"]),
        ("loss=1", ["loss.contrastive"]),
        ("seed", ["no assignment", "name=value"]),
        ("train.steps=1.5", ["train.steps", "'1.5'", "whole number"]),
        ("loss.symmetric=1", ["true or false"]),
        ("loss.temperature=hot", ["'hot'", "a number"]),
        ("loss.temperature=nan", ["a number"]),
        ("loss.temperature=0", ["loss.temperature = 0", "more than 0"]),
        ("optimizer.warmup=1", ["at least 0 and less than 1"]),
        ("batch.grouping=tasks", ["Did you mean task?"]),
        ("batch.size=1", ["batch.size = 1", "at least 2"]),
        ("seed=-1", ["seed = -1"]),
        ("dtype=int8", ["float16"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(assignment: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(DistillSettings, overrides=[assignment], flags=NEEDED)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:\n  step: 3\n", ["train.step", "Did you mean train.steps?"]),
        ("seed: 1\nseed: 2\n", ["line 2", "given twice"]),
        ("seed: [1\n", ["not valid YAML", "line"]),
        ("- seed\n", ["holds no settings"]),
        ("seed: true\n", ["whole number"]),
        ("tasks: 7\n", ["in quotes"]),
        ("train: 3\n", ["train", "several settings"]),
        ("pools: local\n", ["pools"]),
    ],
)
def test_a_faulty_file_is_refused_with_the_place(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(DistillSettings, config=_file(tmp_path, text), flags=NEEDED)
    for word in words:
        assert word.lower() in str(caught.value).lower()


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    config = _file(tmp_path, "# nothing yet\n")
    settings = load_settings(DistillSettings, config=config, flags=NEEDED)
    assert settings == load_settings(DistillSettings, flags=NEEDED)


def test_missing_settings_are_named_as_one_types_them() -> None:
    with pytest.raises(ConfigError, match="Missing: STUDENT, --data, --output-dir"):
        load_settings(DistillSettings)


def test_a_misspelt_file_or_recipe_gets_a_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _file(tmp_path, "seed: 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"Did you mean mine.yaml\?"):
        load_settings(DistillSettings, config="min.yaml", flags=NEEDED)
    with pytest.raises(ConfigError, match=r"Did you mean demo\?"):
        load_settings(DistillSettings, config="demoo", flags=NEEDED)


@pytest.mark.parametrize(
    "cls", [AnalyzeSettings, PruneSettings, EvaluateSettings, MineSettings, DistillSettings]
)
def test_settings_survive_the_way_through_yaml(tmp_path: Path, cls: type) -> None:
    needed = {"model": "m", "student": "s", "data": "d", "output_dir": "o", "keep": 3, "k": 3}
    flags = {name: value for name, value in needed.items() if name in paths_of(cls)}
    settings: object = load_settings(cls, flags=flags)
    config = _file(tmp_path, yaml.safe_dump(to_plain(settings)))
    assert load_settings(cls, config=config) == settings
