"""Recipes of several stages: what reaches which stage, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from puma_cli.checkpoint.provenance import to_plain
from puma_cli.config.loading import load_settings
from puma_cli.config.stages import TrainingStage, check_stages, fold, load_stages
from puma_cli.config.training_settings import DistillSettings
from puma_cli.errors import ConfigError

NEEDED = {"student": "pruned", "data": Path("d"), "output_dir": Path("o")}
TWO = """
train:
  steps: 8
  validate_every: 4
stages:
  - name: first
    teacher: big
    loss:
      mse: 0.1
  - name: second
    teacher: none
    seed: 7
    train:
      steps: 5
"""


def loaded(folder: Path, text: str, *overrides: str, **flags: Any) -> dict[str, DistillSettings]:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    stages = load_stages(config=str(path), overrides=overrides, flags=NEEDED | flags)
    return {stage.name: stage.settings for stage in stages}


def test_a_stage_is_the_common_part_with_its_own_over_it(tmp_path: Path) -> None:
    stages = loaded(tmp_path, TWO)
    assert list(stages) == ["first", "second"]
    first, second = stages.values()
    assert (first.train.steps, second.train.steps) == (8, 5)
    assert first.train.validate_every == second.train.validate_every == 4
    assert (first.teacher, first.loss.mse, first.seed) == ("big", 0.1, 0)
    assert (second.teacher, second.loss.mse, second.seed) == ("none", 0.0, 7)
    assert first.output_dir == second.output_dir == Path("o")


def test_what_is_said_for_all_reaches_all_and_what_is_said_for_one_is_stronger(
    tmp_path: Path,
) -> None:
    stages = loaded(tmp_path, TWO, "stages.first.train.steps=3", "train.steps=10")
    assert [each.train.steps for each in stages.values()] == [3, 10]
    flags = {"train.steps": 20}
    stages = loaded(tmp_path, TWO, "stages.second.train.steps=2", "train.steps=10", **flags)
    assert [each.train.steps for each in stages.values()] == [20, 2]


def test_an_input_for_all_is_for_the_stages_that_name_none(tmp_path: Path) -> None:
    stages = loaded(tmp_path, TWO, "stages.first.data=texts", data="images")
    assert stages["first"].data == Path("texts") and stages["second"].data == Path("images")


def test_a_teacher_for_all_leaves_a_stage_without_one_alone(tmp_path: Path) -> None:
    stages = loaded(tmp_path, TWO.replace("    teacher: big\n", ""), teacher="huge")
    assert [each.teacher for each in stages.values()] == ["huge", "none"]


def test_an_input_that_reaches_no_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="teacher = huge on the command line reaches no stage"):
        loaded(tmp_path, TWO, teacher="huge")
    with pytest.raises(ConfigError, match="data = x in --set reaches no stage"):
        loaded(tmp_path, TWO, "data=x", "stages.first.data=a", "stages.second.data=b")


def test_a_dry_run_is_of_all_stages(tmp_path: Path) -> None:
    assert all(each.dry_run for each in loaded(tmp_path, TWO, dry_run=True).values())
    with pytest.raises(ConfigError, match=r"Stage second: dry_run .* not for one stage alone"):
        loaded(tmp_path, TWO, "stages.second.dry_run=true")


def test_a_recipe_without_stages_has_none(tmp_path: Path) -> None:
    assert loaded(tmp_path, "seed: 1\n") == {}
    assert load_stages(flags=NEEDED) == ()


def test_values_that_nobody_set_are_completed_stage_by_stage(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TWO, encoding="utf-8")
    stages = load_stages(
        config=str(path),
        flags=NEEDED,
        complete=lambda tree: (
            {"loss.cosine": 1.0, "loss.mse": 0.5} if tree["teacher"] != "none" else {}
        ),
    )
    assert [each.settings.loss.cosine for each in stages] == [1.0, 0.0]
    assert [each.settings.loss.mse for each in stages] == [0.1, 0.0]


def test_folded_stages_load_as_they_were(tmp_path: Path) -> None:
    stages = loaded(tmp_path, TWO, "loss.temperatures=0.1,1e-7", "stages.second.lora.rank=4")
    folded = fold({name: to_plain(settings) for name, settings in stages.items()})
    assert folded["train"]["validate_every"] == 4 and "steps" not in folded["train"]
    assert folded["stages"][1] == {
        "name": "second",
        "teacher": "none",
        "loss": {"mse": 0.0},
        "lora": {"rank": 4},
        "train": {"steps": 5},
        "seed": 7,
    }
    path = tmp_path / "folded.yaml"
    path.write_text(yaml.safe_dump(folded), encoding="utf-8")
    again = load_stages(config=str(path))
    assert {stage.name: stage.settings for stage in again} == stages


def test_settings_without_anything_in_common_fold_too() -> None:
    folded = fold({"a": {"x": {"y": 1}, "z": 0}, "b": {"x": {"y": 2}, "z": 0}})
    assert folded == {
        "z": 0,
        "stages": [{"name": "a", "x": {"y": 1}}, {"name": "b", "x": {"y": 2}}],
    }


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("stages: 3\n", "no list of stages: 3", "- name"),
        ("stages: []\n", "no list of stages", "- name"),
        ("stages:\n  - nmae: a\n", "Stage 1 .* has no name", "- name"),
        ("stages:\n  - a\n", "Stage 1 .* has no name", "- name"),
        ("stages:\n  - name: 1\n", "cannot be called 1", "letters"),
        ("stages:\n  - name: ../a\n", "cannot be called '../a'", "letters"),
        ("stages:\n  - name: a.b\n", "cannot be called 'a.b'", "letters"),
        ("stages:\n  - name: a\n  - name: A\n", "Two stages .* called 'A'", "Rename"),
        ("stages:\n  - name: a\n    sede: 1\n", "Stage a: Unknown setting 'sede'", "Did you mean"),
        (
            "stages:\n  - name: a\n    train: {stpes: 1}\n",
            "Stage a: .*'train.stpes'",
            "train.steps",
        ),
        ("stages:\n  - name: a\n    train: {steps: 0}\n", "Stage a: train.steps = 0", ""),
        ("stages:\n  - name: a\n    student: b\n", "student .* not for one stage alone", "all"),
        ("stages:\n  - name: a\n    fresh: {layers: 2}\n", "fresh .* not for one stage", "all"),
        ("sede: 1\nstages:\n  - name: a\n", "^Unknown setting 'sede'", "Did you mean"),
        ("stage:\n  - name: a\n", "Unknown setting 'stage'", "Did you mean stages?"),
    ],
)
def test_a_broken_recipe_is_refused_with_what_is_wrong(
    tmp_path: Path, text: str, says: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        loaded(tmp_path, text)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("assignment", "says", "hint"),
    [
        ("stages.frist.seed=1", "has no stage 'frist'", "Did you mean first?"),
        ("stages.first=1", "none of its settings", "stages.first.train.steps=10"),
        ("stages=1", "has no stage ''", "first, second"),
        ("stages.first.sed=1", "Stage first: Unknown setting 'sed' in --set", "seed"),
        ("stages.first.resume=true", "resume in --set is not for one stage alone", "all"),
        ("train.stpes=1", "^Unknown setting 'train.stpes' in --set", "train.steps"),
    ],
)
def test_a_wrong_assignment_is_refused(
    tmp_path: Path, assignment: str, says: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        loaded(tmp_path, TWO, assignment)
    assert hint in caught.value.hint


def test_an_assignment_to_a_stage_needs_stages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are none"):
        loaded(tmp_path, "seed: 1\n", "stages.first.seed=1")
    with pytest.raises(ConfigError, match="there are none"):
        load_stages(overrides=["stages.first.seed=1"], flags=NEEDED)


def test_one_run_takes_no_recipe_of_stages(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TWO, encoding="utf-8")
    with pytest.raises(ConfigError, match="several stages") as caught:
        load_settings(DistillSettings, config=str(path), flags=NEEDED)
    assert "puma distill" in caught.value.hint


def test_stages_from_python_are_one_run() -> None:
    one = DistillSettings("s", Path("d"), Path("o"))
    other = DistillSettings("s", Path("d"), Path("p"))
    check_stages([TrainingStage("a", one), TrainingStage("b", one)])
    for stages, says in (
        ([], "no stages"),
        ([TrainingStage("a", one), TrainingStage("a", one)], "Two stages"),
        ([TrainingStage("a/b", one)], "cannot be called"),
        ([TrainingStage("a", one), TrainingStage("b", other)], "Stage b: output_dir"),
    ):
        with pytest.raises(ConfigError, match=says):
            check_stages(stages)
