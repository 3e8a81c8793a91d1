"""Trainings in a row: each starts from the one before, and stopping anywhere changes nothing."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from puma_cli.checkpoint.inspection import inspect_folder
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.stages import TrainingStage, load_stages
from puma_cli.config.training_settings import DistillSettings
from puma_cli.distillation import stages as staged
from puma_cli.distillation.distill import distill
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.stage_folders import StageFolder
from puma_cli.distillation.stages import distill_stages
from puma_cli.errors import ConfigError, DataError, OutputError, PumaError
from puma_cli.interruption import Stopped
from puma_cli.models.embedder import Embedder
from puma_cli.progress import Reporter
from tests.data.pairs.writing import texts, write_table

Stages = list[TrainingStage]


class Listener(Reporter):
    """Keeps the notes, and does something when a step of a stage is done."""

    def __init__(self, stage: int = -1, step: int = 0, action: Callable[[], Any] = int) -> None:
        self.notes: list[str] = []
        self._at, self._action = (stage, step), action
        self._stage = -1

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._stage += "] Stage " in text and "done before" not in text

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        if (self._stage, done) == self._at:
            self._action()


class Killed(BaseException):
    """Ends a run where it stands, as SIGKILL would: nothing in puma expects it."""


def kill() -> None:
    raise Killed


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def with_changes(stages: Stages, **changes: Any) -> Stages:
    return [TrainingStage(stage.name, replace(stage.settings, **changes)) for stage in stages]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(ours: Path, theirs: Path) -> None:
    for name in (".", "last"):
        one, other = weights(ours / name), weights(theirs / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_table(path, texts(40))
    return path


@pytest.fixture(scope="module")
def recipe(
    pruned: Path,
    tiny_checkpoint: Path,
    tiny_scenes: Path,
    pairs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A first stage on texts, and a second that asks the teacher again."""
    path = tmp_path_factory.mktemp("recipe") / "two.yaml"
    path.write_text(
        f"""
student: {pruned}
data: {tiny_scenes}
teacher: {tiny_checkpoint}
device: cpu
lora: {{rank: 4, alpha: 8, dropout: 0.1}}
optimizer: {{learning_rate: 1.0e-3}}
batch: {{size: 6}}
train: {{steps: 4, validate_every: 3, save_every: 1, validation_limit: 1}}
stages:
  - name: text
    data: {pairs}
    loss: {{contrastive_weight: 0.9, mse: 0.1}}
  - name: polish
    loss: {{contrastive: mac, similarity: 0.5}}
    train: {{steps: 3}}
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def stages(recipe: Path, tmp_path: Path) -> Stages:
    return list(load_stages(config=str(recipe), flags={"output_dir": tmp_path / "student"}))


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that nothing disturbed, and what it said."""
    folder = tmp_path_factory.mktemp("whole") / "student"
    listener = Listener()
    result = distill_stages(load_stages(config=str(recipe), flags={"output_dir": folder}), listener)
    assert result.finished and result.folder == folder
    assert [each.steps for each in result.stages.values()] == [4, 3]
    assert result.steps == 7
    return folder, listener.notes


def test_stages_are_the_same_trainings_as_one_by_one(
    whole: tuple[Path, list[str]], stages: Stages, tmp_path: Path
) -> None:
    student = stages[0].settings.student
    for stage in stages:
        output = tmp_path / stage.name
        distill(replace(stage.settings, student=student, output_dir=output))
        student = str(output)
        folder = whole[0] if stage is stages[-1] else whole[0] / "stages" / stage.name
        same(folder, output)
    assert not (whole[0] / "training").exists()
    assert not any(whole[0].glob("stages/*/training"))


def test_one_copy_serves_both_only_while_the_weights_are_the_teachers(
    whole: tuple[Path, list[str]],
) -> None:
    begun = [note for note in whole[1] if "weights train on" in note]
    assert ["one copy serves" in note for note in begun] == [True, False]


def test_a_stage_holds_nothing_of_the_one_before(stages: Stages) -> None:
    alive: list[int] = []

    def look() -> None:
        alive.append(sum(type(each) in (Pair, Embedder) for each in gc.get_objects()))

    one = with_changes(stages, train=replace(stages[0].settings.train, steps=1))
    distill_stages([one[0]], Listener(0, 1, look))
    second = with_changes(one, output_dir=stages[0].settings.output_dir.with_name("again"))
    distill_stages([second[0], replace(second[0], name="same")], Listener(1, 1, look))
    first, later = alive
    # A pair with its student and its teacher, once in either case.
    assert first >= 3 and later == first


def test_the_result_knows_all_stages(
    whole: tuple[Path, list[str]], stages: Stages, pairs: Path, pruned: Path
) -> None:
    folder = whole[0]
    found = read_provenance(folder)
    assert found is not None and found.command == "distill" and found.stage == "polish"
    assert [stage["name"] for stage in found.earlier_stages] == ["text"]
    (text,) = found.earlier_stages
    assert text["settings"]["loss"]["mse"] == 0.1 and text["settings"]["data"] == str(pairs)
    assert text["settings"]["loss"]["contrastive"] == "info_nce"
    assert found.settings["loss"]["similarity"] == 0.5
    assert text["results"]["progress"]["step"] == 4 and text["kept_layers"] == [0, 1]
    assert text["parents"][0]["name"] == str(pruned)
    # The student is the result of the stage before, with the fingerprint that it has.
    assert found.parents[0].name == str(folder / "stages" / "text")
    report = inspect_folder(folder)
    assert {parent.state for parent in report.parents} == {"unchanged"}
    assert ("stages", "text, polish") in report.facts
    card = (folder / "README.md").read_text(encoding="utf-8")
    best = text["results"]["progress"]["best_step"]
    assert "stage before: text" in card and f"{best} steps from {pruned}" in card
    # An earlier stage tells its own part; a cut has no stages to tell of.
    inner = read_provenance(folder / "stages" / "text")
    assert inner is not None and inner.stage == "text" and inner.earlier_stages == []
    assert "stage" not in json.loads((pruned / "puma.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("stage", "step"), [(0, 3), (1, 2)])
def test_a_killed_run_goes_on_to_the_same_weights(
    whole: tuple[Path, list[str]], stages: Stages, stage: int, step: int
) -> None:
    folder = stages[0].settings.output_dir
    with pytest.raises(Killed):
        distill_stages(stages, Listener(stage, step, kill))
    assert not (folder / "config.json").exists()
    assert inspect_folder(folder).kind == "unfinished training"
    listener = Listener()
    assert distill_stages(with_changes(stages, resume=True), listener).finished
    assert sum("done before" in note for note in listener.notes) == stage
    same(whole[0], folder)


def test_a_run_killed_between_stages_goes_on_to_the_same_weights(
    whole: tuple[Path, list[str]], stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged, "_free_memory", kill)
    with pytest.raises(Killed):
        distill_stages(stages)
    monkeypatch.undo()
    folder = stages[0].settings.output_dir
    (first,) = (folder / "stages").iterdir()
    before = (first / "model.safetensors").stat()
    assert distill_stages(with_changes(stages, resume=True)).finished
    same(whole[0], folder)
    after = (first / "model.safetensors").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_a_kill_leaves_of_a_stage_that_has_not_begun_is_no_hindrance(
    whole: tuple[Path, list[str]], stages: Stages
) -> None:
    folder = stages[0].settings.output_dir

    def open_half(self: StageFolder, settings: DistillSettings) -> None:
        self._run.open()
        self.state.mkdir(parents=True)
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StageFolder, "open", open_half)
        with pytest.raises(Killed):
            distill_stages(stages)
    assert inspect_folder(folder).kind == "unfinished training"
    assert distill_stages(with_changes(stages, resume=True)).finished
    same(whole[0], folder)


def test_a_signal_stops_a_stage_with_its_state(
    whole: tuple[Path, list[str]], stages: Stages
) -> None:
    folder = stages[0].settings.output_dir
    with pytest.raises(Stopped, match="Stage polish: Stopped after step 2 of 3") as caught:
        distill_stages(stages, Listener(1, 2, send(signal.SIGINT)))
    assert caught.value.exit_code == 130 and "--resume" in caught.value.hint
    again = with_changes(stages, resume=True)
    assert distill_stages(again).finished
    same(whole[0], folder)
    # A finished run has nothing left to do.
    listener = Listener()
    assert distill_stages(again, listener).steps == 7
    assert sum("done before" in note for note in listener.notes) == 2


def test_a_signal_at_a_stage_s_last_step_stops_before_the_next(stages: Stages) -> None:
    with pytest.raises(Stopped, match="after stage text, which is finished") as caught:
        distill_stages(stages, Listener(0, 4, send(signal.SIGTERM)))
    assert caught.value.exit_code == 143
    folder = stages[0].settings.output_dir
    assert (folder / "stages/text/config.json").is_file()
    assert not (folder / "log.jsonl").exists()


def test_a_signal_between_two_stages_is_no_bare_interruption(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged, "_free_memory", send(signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match="after stage text, which is finished") as caught:
        distill_stages(stages)
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_the_time_is_that_of_all_stages(stages: Stages) -> None:
    result = distill_stages(with_changes(stages, stop_after=1e-9))
    assert not result.finished and [*result.stages] == ["text"]
    assert result.stages["text"].steps == 1


def test_an_unfinished_run_can_be_resumed_as_puma_info_says(
    whole: tuple[Path, list[str]], stages: Stages
) -> None:
    folder = stages[0].settings.output_dir
    with pytest.raises(Stopped):
        distill_stages(stages, Listener(1, 2, send(signal.SIGINT)))
    report = inspect_folder(folder)
    assert ("stages", "text, polish") in report.facts
    saved = folder / "training" / "stages.json"
    assert report.next_command.split()[:4] == ["puma", "distill", "--config", str(saved)]
    # The folder may have moved in the meantime.
    moved = folder.with_name("moved")
    folder.rename(moved)
    again = load_stages(
        config=str(moved / "training" / "stages.json"),
        flags={"output_dir": moved, "resume": True},
    )
    assert distill_stages(again).finished
    same(whole[0], moved)


def test_a_stage_that_has_begun_keeps_its_settings_and_others_may_change(stages: Stages) -> None:
    def changed(number: int) -> Stages:
        changed = with_changes(stages, resume=True)
        settings = replace(changed[number].settings, seed=3)
        changed[number] = TrainingStage(changed[number].name, settings)
        return changed

    with pytest.raises(Stopped):
        distill_stages(stages, Listener(0, 4, send(signal.SIGINT)))
    with pytest.raises(ConfigError, match="started with seed 0, not 3"):
        distill_stages(changed(0))
    with pytest.raises(ConfigError, match="stages text, polish, not with text"):
        distill_stages(with_changes(stages, resume=True)[:1])
    with pytest.raises(Stopped):
        distill_stages(changed(1), Listener(0, 2, send(signal.SIGINT)))
    with pytest.raises(ConfigError, match=r"Stage polish: The training .* seed 3, not 0"):
        distill_stages(with_changes(stages, resume=True))


def test_a_run_with_stages_and_one_without_do_not_resume_one_another(
    settings: DistillSettings, stages: Stages
) -> None:
    again = with_changes(stages, resume=True)
    with pytest.raises(OutputError, match="no training to resume"):
        distill_stages(again)
    output = stages[0].settings.output_dir
    plain = replace(settings, output_dir=output, train=replace(settings.train, steps=1))
    distill(plain)
    with pytest.raises(ConfigError, match="was started without stages"):
        distill_stages(again)
    shutil.rmtree(output)
    with pytest.raises(Stopped):
        distill_stages(stages, Listener(0, 2, send(signal.SIGINT)))
    with pytest.raises(OutputError, match="no training to resume"):
        distill(replace(plain, resume=True))


def test_a_taken_folder_is_refused_and_replaced_when_asked(
    stages: Stages, whole: tuple[Path, list[str]]
) -> None:
    folder = stages[0].settings.output_dir
    folder.mkdir()
    (folder / "mine.txt").write_text("kept", encoding="utf-8")
    for over, says in ((False, "not empty"), (True, "not written by puma")):
        with pytest.raises(OutputError, match=says):
            distill_stages(with_changes(stages, overwrite=over))
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    shutil.rmtree(folder)
    with pytest.raises(Stopped):
        distill_stages(stages, Listener(0, 2, send(signal.SIGINT)))
    with pytest.raises(OutputError, match="not at its end") as caught:
        distill_stages(stages)
    assert "--resume" in str(caught.value.hint)
    assert distill_stages(with_changes(stages, overwrite=True)).finished
    same(whole[0], folder)
    assert [path.name for path in folder.parent.glob(".*")] == []


def test_a_first_stage_that_cannot_begin_leaves_the_result_it_would_replace(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stages[0].settings.output_dir
    folder.mkdir()
    (folder / "puma.json").write_text('{"command": "distill"}', encoding="utf-8")
    broken = with_changes(stages, overwrite=True, student=str(folder.parent / "nowhere"))
    with pytest.raises(Exception, match="nowhere"):
        distill_stages(broken)
    assert [path.name for path in folder.iterdir()] == ["puma.json"]
    assert [path.name for path in folder.parent.glob(".*")] == []


def test_a_later_stage_that_cannot_begin_can_be_mended(
    stages: Stages, whole: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = StageFolder.open

    def fail(self: StageFolder, settings: DistillSettings) -> None:
        begin(self, settings)
        if self.stage == "polish":
            (self.state / "teacher").mkdir()
            raise DataError("Gone.")

    monkeypatch.setattr(StageFolder, "open", fail)
    with pytest.raises(DataError, match="Stage polish: Gone"):
        distill_stages(stages)
    monkeypatch.undo()
    folder = stages[0].settings.output_dir
    # `open` itself failed here, after it had written: a later session starts the stage anew.
    assert distill_stages(with_changes(stages, resume=True)).finished
    same(whole[0], folder)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"data": Path("nowhere")}, DataError, "Stage polish: There are no data"),
        ({"lora": LoraSettings(rank=-1)}, ConfigError, r"Stage polish: lora\.rank"),
        ({"teacher": "none"}, ConfigError, "Stage polish: The loss compares"),
        ({"teacher": "nobody/nothing"}, PumaError, "Stage polish: "),
    ],
)
def test_what_would_end_a_later_stage_is_found_before_the_first(
    stages: Stages, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    last = stages[-1]
    stages[-1] = TrainingStage(last.name, replace(last.settings, **change))
    with pytest.raises(error, match=says):
        distill_stages(stages)
    assert not stages[0].settings.output_dir.exists()


def test_a_head_is_faded_by_one_stage_and_only_where_there_is_one(stages: Stages) -> None:
    def fading(stage: TrainingStage) -> TrainingStage:
        train = replace(stage.settings.train, fade_head=True)
        return TrainingStage(stage.name, replace(stage.settings, train=train))

    with pytest.raises(ConfigError, match=r"Stage polish: .* and stage text has it set too"):
        distill_stages([fading(each) for each in stages])
    with pytest.raises(ConfigError, match=r"Stage polish: .* the student has no head"):
        distill_stages([stages[0], fading(stages[1])])
    assert not stages[0].settings.output_dir.exists()


def test_inputs_are_never_replaced(stages: Stages, pruned: Path, tmp_path: Path) -> None:
    output = stages[0].settings.output_dir
    shutil.copytree(pruned, output)
    within = with_changes(stages, student=str(output), overwrite=True)
    with pytest.raises(OutputError, match="which the result is made from"):
        distill_stages(within)
    assert (output / "config.json").is_file()
