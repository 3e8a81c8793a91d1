"""TensorBoard gets what the log gets; other trackers are named or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from puma_cli.config.legal import check_settings
from puma_cli.config.training_settings import DistillSettings
from puma_cli.distillation import trackers
from puma_cli.distillation.distill import distill
from puma_cli.distillation.log import read_log
from puma_cli.distillation.trackers import choose_trackers, tagged
from puma_cli.errors import ConfigError

pytest.importorskip("tensorboard")


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the scalars of a folder's event files as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard" / "puma"), size_guidance={"scalars": 0})
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_tensorboard_shows_what_the_log_says(settings: DistillSettings) -> None:
    stopped = replace(settings, stop_after=1e-9)
    assert distill(stopped).steps == 1
    assert distill(replace(settings, resume=True)).finished
    shown, log = events(settings.output_dir), read_log(settings.output_dir / "log.jsonl")
    loss = [(row["step"], row["loss"]) for row in log if "loss" in row]
    assert dict(shown["train/loss"]) == pytest.approx(dict(loss))
    hits = [(row["step"], row["validation_hit@1"]) for row in log if "validation_hit@1" in row]
    assert dict(shown["validation/validation_hit@1"]) == pytest.approx(dict(hits))
    assert any("scenes_task0" in tag for tag in shown)
    assert not any("step" in tag for tag in shown)


def test_what_was_logged_past_the_saved_state_is_hidden(settings: DistillSettings) -> None:
    train = replace(settings.train, steps=4, validate_every=2, validate_teacher=False)
    short = replace(settings, train=train)
    distill(replace(short, stop_after=1e-9))
    # A run that was killed after step 3 without having saved it.
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(short.output_dir / "tensorboard" / "puma")) as writer:
        writer.add_scalar("train/loss", 99.0, global_step=3)
    assert distill(replace(short, resume=True)).finished
    assert 99.0 not in [value for _, value in events(short.output_dir)["train/loss"]]


def test_without_trackers_there_is_no_folder_of_theirs(settings: DistillSettings) -> None:
    train = replace(settings.train, steps=1, validation_limit=0, trackers=("none",))
    distill(replace(settings, train=train))
    assert not (settings.output_dir / "tensorboard").exists()
    assert json.loads((settings.output_dir / "puma.json").read_text())["settings"]["train"][
        "trackers"
    ] == ["none"]


def test_auto_is_tensorboard_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_trackers(("auto",)) == ["tensorboard"]
    assert choose_trackers(("tensorboard", "auto")) == ["tensorboard"]
    assert choose_trackers(("none",)) == []
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    assert choose_trackers(("auto",)) == []
    with pytest.raises(ConfigError) as caught:
        choose_trackers(("tensorboard",))
    assert "pip install 'puma-cli[tensorboard]'" in caught.value.hint


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_written(
    settings: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    named = replace(settings, train=replace(settings.train, trackers=("comet_ml",)))
    with pytest.raises(ConfigError, match="names comet_ml, which is not installed") as caught:
        distill(named)
    assert caught.value.hint == "Type: pip install comet-ml"
    assert not settings.output_dir.exists()


def test_none_and_others_contradict(settings: DistillSettings) -> None:
    with pytest.raises(ConfigError, match="contradicts itself"):
        choose_trackers(("none", "tensorboard"))
    unknown = replace(settings, train=replace(settings.train, trackers=("tensorbord",)))
    with pytest.raises(ConfigError, match="must be one of") as caught:
        check_settings(unknown)
    assert "tensorboard" in caught.value.hint


def test_names_stand_in_groups() -> None:
    named = {"loss": 1.0, "validation_hit@1 a": 0.5, "retention": 0.9, "teacher_hit@1": 0.6}
    assert list(tagged(named)) == [
        "train/loss",
        "validation/validation_hit@1 a",
        "validation/retention",
        "validation/teacher_hit@1",
    ]
