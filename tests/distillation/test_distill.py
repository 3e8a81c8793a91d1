"""Whole trainings of a tiny model: what they write, and that stopping changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import (
    DistillSettings,
    FreshSettings,
    LossSettings,
    OptimizerSettings,
    TrainSettings,
)
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation import state
from puma_cli.distillation.distill import distill
from puma_cli.errors import CheckpointError, ConfigError, DataError, NumericError, OutputError
from puma_cli.interruption import Stopped
from puma_cli.models.fresh import build_fresh
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.opening import load
from puma_cli.models.usage import usage_of
from puma_cli.progress import Reporter
from tests.headed import add_head
from tests.stock_loaders import check_cards


class SignalAt(Reporter):
    """Sends this process a signal when a step is done."""

    def __init__(self, step: int, number: int) -> None:
        self._at, self._number = step, number

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        if done == self._at:
            os.kill(os.getpid(), self._number)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("rank", [0, 4])
def test_a_stopped_and_resumed_training_ends_in_the_same_weights(
    settings: DistillSettings, rank: int
) -> None:
    lora = LoraSettings(rank=rank, alpha=8, dropout=0.1 if rank else 0.0)
    whole = replace(settings, lora=lora, output_dir=settings.output_dir / "whole")
    result = distill(whole)
    assert result.finished and result.steps == 6
    parts = replace(whole, output_dir=settings.output_dir / "parts")
    with pytest.raises(Stopped, match="after step 2 of 6") as caught:
        distill(parts, SignalAt(2, signal.SIGINT))
    assert caught.value.exit_code == 130
    assert not (parts.output_dir / "config.json").exists()
    with pytest.raises(Stopped) as caught:
        distill(replace(parts, resume=True), SignalAt(5, signal.SIGTERM))
    assert caught.value.exit_code == 143
    assert distill(replace(parts, resume=True)).finished
    for name in (".", "last"):
        expected, found = weights(whole.output_dir / name), weights(parts.output_dir / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_head_is_trained_saved_and_resumed_with_its_student(
    settings: DistillSettings, pruned: Path, tmp_path: Path, rank: int
) -> None:
    student = add_head(pruned, tmp_path / "headed")
    lora = LoraSettings(rank=rank, alpha=8, dropout=0.1 if rank else 0.0)
    whole = replace(settings, student=str(student), lora=lora, output_dir=tmp_path / "whole")
    assert distill(whole).finished
    parts = replace(whole, output_dir=tmp_path / "parts")
    with pytest.raises(Stopped, match="after step 4 of 6"):
        distill(parts, SignalAt(4, signal.SIGTERM))
    assert distill(replace(parts, resume=True)).finished
    for name in (".", "last"):
        for file in ("model.safetensors", BRIDGE):
            expected = load_file(whole.output_dir / name / file)
            found = load_file(parts.output_dir / name / file)
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[key], found[key]) for key in expected)
    before, after = load_file(student / BRIDGE), load_file(whole.output_dir / "last" / BRIDGE)
    assert all(not torch.equal(before[key], after[key]) for key in before)
    card = (whole.output_dir / "README.md").read_text()
    assert usage_of(whole.output_dir).replace("FOLDER", ".").strip() in card and BRIDGE in card


@pytest.mark.parametrize("rank", [0, 4])
def test_a_head_that_fades_leaves_a_stock_student_whatever_stops_it(
    settings: DistillSettings, pruned: Path, tmp_path: Path, rank: int
) -> None:
    student = add_head(pruned, tmp_path / "headed")
    train = replace(settings.train, fade_head=True, validate_every=2)
    lora = LoraSettings(rank=rank, alpha=8, dropout=0.1 if rank else 0.0)
    whole = replace(
        settings, student=str(student), train=train, lora=lora, output_dir=tmp_path / "whole"
    )
    result = distill(whole)
    # Until step 3 of 6 there is something of the head.
    assert result.best_step in (4, 6)
    parts = replace(whole, output_dir=tmp_path / "parts")
    with pytest.raises(Stopped, match="after step 2 of 6"):
        distill(parts, SignalAt(2, signal.SIGTERM))
    assert distill(replace(parts, resume=True)).finished
    for name in (".", "last"):
        folder = whole.output_dir / name
        assert not (folder / BRIDGE).exists() and load(folder, "cpu").head is None
        found = weights(parts.output_dir / name)
        assert all(torch.equal(found[key], value) for key, value in weights(folder).items())
    log = [json.loads(line) for line in (whole.output_dir / "log.jsonl").read_text().splitlines()]
    shares = {row["step"]: row["head_share"] for row in log if "head_share" in row}
    assert shares == {1: pytest.approx(2 / 3), 6: 0}


def test_a_head_fades_only_where_it_can(
    settings: DistillSettings, pruned: Path, tmp_path: Path
) -> None:
    fading = replace(settings, train=replace(settings.train, fade_head=True))
    with pytest.raises(ConfigError, match="has no head"):
        distill(fading)
    longer = add_head(pruned, tmp_path / "longer", outputs=48)
    loss = LossSettings(contrastive="info_nce", similarity=1.0)
    with pytest.raises(ConfigError, match="makes 48 numbers of 32"):
        distill(replace(fading, student=str(longer), loss=loss))


def test_hard_negatives_masks_and_a_learned_temperature_are_logged_and_resumed(
    settings: DistillSettings, tmp_path: Path
) -> None:
    loss = replace(
        settings.loss,
        contrastive="mac",
        learn_temperature=True,
        temperatures=(0.05,) * 9,
        dimensions=(8,),
        false_negative_margin=-0.02,
        gram=0.3,
    )
    whole = replace(
        settings,
        loss=loss,
        batch=replace(settings.batch, negatives=2),
        output_dir=tmp_path / "whole",
    )
    assert distill(whole).finished
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    first, *_, last = [row for row in log if "loss" in row]
    assert first["hard_negatives"] > 0 and 0 < first["masked"] < 1
    assert {"gram", "accuracy", "sharpening"} <= first.keys()
    assert first["temperature text > image"] == pytest.approx(0.05)
    moved = [key for key in last if key.startswith("temperature") and last[key] != first[key]]
    assert moved
    parts = replace(whole, output_dir=tmp_path / "parts")
    with pytest.raises(Stopped, match="after step 4 of 6"):
        distill(parts, SignalAt(4, signal.SIGTERM))
    assert distill(replace(parts, resume=True)).finished
    expected, found = weights(tmp_path / "whole" / "last"), weights(tmp_path / "parts" / "last")
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    resumed = json.loads((tmp_path / "parts" / "log.jsonl").read_text().splitlines()[-2])
    assert resumed["temperature text > image"] == last["temperature text > image"]


def test_a_finished_training_is_a_checkpoint_with_a_history(
    settings: DistillSettings, tmp_path: Path
) -> None:
    result = distill(settings)
    folder = settings.output_dir
    assert load(folder, "cpu").depth == load(folder / "last", "cpu").depth == 2
    check_cards([folder, folder / "last"], tmp_path)
    assert not (folder / "training").exists()
    # safetensors writes files that only their owner may read.
    assert (folder / "model.safetensors").stat().st_mode == (folder / "puma.json").stat().st_mode
    history = json.loads((folder / "puma.json").read_text())
    assert history["command"] == "distill" and history["settings"]["loss"]["cosine"] == 0.5
    assert {parent["role"] for parent in history["parents"]} >= {"student", "teacher"}
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "validation_hit@1" in row] == [3, 6]
    assert {"loss", "mac", "mse", "cosine", "similarity", "learning_rate"} <= log[-2].keys()
    assert result.best_score == max(row.get("validation_hit@1", -1) for row in log)
    # A resume of what is finished does nothing and says what it came to.
    again = distill(replace(settings, resume=True))
    assert again.finished and again.best_step == result.best_step
    # What it did not do is not said to be done.
    other = replace(settings, resume=True, seed=settings.seed + 1)
    with pytest.raises(ConfigError, match="was started with seed"):
        distill(other)


def test_training_changes_only_what_it_may(settings: DistillSettings, pruned: Path) -> None:
    distill(settings)
    before, after = weights(pruned), weights(settings.output_dir / "last")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("layers.0" in name for name in changed)
    assert not any("visual" in name or "embed_tokens" in name for name in changed)


def test_distillation_brings_the_student_closer_to_its_teacher(
    settings: DistillSettings, tiny_checkpoint: Path, pruned: Path
) -> None:
    train = replace(settings.train, steps=40, validate_every=40)
    loss = LossSettings(contrastive_weight=0.0, cosine=1.0)
    fast = replace(settings.optimizer, learning_rate=1e-2)
    distill(replace(settings, train=train, loss=loss, optimizer=fast))
    log = (settings.output_dir / "log.jsonl").read_text().splitlines()
    terms = [json.loads(line)["cosine"] for line in log if '"cosine"' in line]
    assert terms[-1] < 0.7 * terms[0]


def test_a_fresh_model_trains_without_a_teacher(settings: DistillSettings) -> None:
    fresh = FreshSettings(
        hidden_size=16, layers=2, heads=2, key_value_heads=1, intermediate_size=24,
        vocabulary=320, vision_size=16, vision_layers=1, vision_heads=2,
    )  # fmt: skip
    train = replace(
        settings.train, steps=2, freeze_vision=False, train_embeddings=True, save_dtype="float16"
    )
    new = replace(
        settings, student="fresh", teacher="none", fresh=fresh, loss=LossSettings(), train=train
    )
    with pytest.raises(Stopped):
        distill(new, SignalAt(1, signal.SIGTERM))
    assert distill(replace(new, resume=True)).finished
    assert load(new.output_dir, "cpu").depth == 2
    assert {value.dtype for value in weights(new.output_dir).values()} == {torch.float16}


def test_time_out_stops_without_an_error(settings: DistillSettings) -> None:
    result = distill(replace(settings, stop_after=1e-9))
    assert not result.finished and result.steps == 1
    assert (settings.output_dir / "training").is_dir()


def test_without_validation_the_last_weights_stay(settings: DistillSettings) -> None:
    train = replace(settings.train, steps=4, validate_every=3, validation_limit=0)
    result = distill(replace(settings, train=train))
    assert (result.best_step, result.best_score) == (4, None)
    log = (settings.output_dir / "log.jsonl").read_text()
    assert "validation" not in log


def test_resuming_with_other_settings_is_refused(settings: DistillSettings) -> None:
    distill(replace(settings, stop_after=1e-9))
    other = replace(settings, resume=True, loss=replace(settings.loss, cosine=0.6))
    with pytest.raises(ConfigError, match=r"started with loss\.cosine 0\.5, not 0\.6"):
        distill(other)


def test_a_taken_output_folder_is_refused_and_left_alone(settings: DistillSettings) -> None:
    settings.output_dir.mkdir()
    (settings.output_dir / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        distill(settings)
    with pytest.raises(OutputError):
        distill(replace(settings, resume=True))
    assert (settings.output_dir / "mine.txt").read_text() == "mine"


def test_a_full_disk_is_named_and_the_old_state_stays(
    settings: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = settings.output_dir / "training"

    def fill_up(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.name == "optimizer.safetensors" and any(training.glob("state-*")):
            raise SafetensorError('IoError(Os { code: 28, message: "No space left on device" })')
        save_file(tensors, path)

    monkeypatch.setattr(state, "save_file", fill_up)
    with pytest.raises(OutputError, match="disk is full"):
        distill(settings)
    monkeypatch.undo()
    assert [path.name for path in training.iterdir() if "state" in path.name] == ["state-00000003"]
    assert distill(replace(settings, resume=True)).finished


def test_an_end_that_is_cut_off_can_be_resumed(
    settings: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def move(self: Path, target: Path) -> Path:
        moved = real(self, target)
        if target == settings.output_dir / "model.safetensors":
            raise KeyboardInterrupt
        return moved

    short = replace(settings, train=TrainSettings(steps=1, validation_limit=1))
    monkeypatch.setattr(Path, "replace", move)
    with pytest.raises(KeyboardInterrupt):
        distill(short)
    monkeypatch.undo()
    assert distill(replace(short, resume=True)).finished
    assert not (settings.output_dir / "training").exists()
    assert load(settings.output_dir, "cpu").depth == 2


def test_a_training_that_cannot_begin_leaves_the_result_it_would_replace(
    settings: DistillSettings, pruned: Path, tmp_path: Path
) -> None:
    real = Path(shutil.copytree(pruned, tmp_path / "real"))
    settings.output_dir.symlink_to(real)
    again = replace(settings, overwrite=True, train=TrainSettings(steps=1, validation_limit=1))
    with pytest.raises(CheckpointError, match="no model"):
        distill(replace(again, student=str(tmp_path / "misspelt")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real", "student"]
    assert sorted(path.name for path in real.iterdir()) == sorted(
        path.name for path in pruned.iterdir()
    )
    assert distill(again).finished
    assert settings.output_dir.is_symlink() and (real / "log.jsonl").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real", "student"]


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float8"},
        {"train": TrainSettings(steps=0)},
        {"train": TrainSettings(validate_every=0)},
        {"optimizer": OptimizerSettings(learning_rate=-1.0)},
    ],
)
def test_illegal_settings_are_refused_from_python_too(
    settings: DistillSettings, change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="is not possible"):
        distill(replace(settings, **change))
    assert not settings.output_dir.exists()


def test_a_training_never_replaces_its_student_or_its_data(settings: DistillSettings) -> None:
    for folder in (Path(settings.student), settings.data):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(OutputError, match="which the result is made from"):
            distill(replace(settings, output_dir=folder, overwrite=True))
        assert sorted(path.name for path in folder.iterdir()) == before


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of half the width."""
    settings = FreshSettings(
        hidden_size=16, layers=2, heads=2, key_value_heads=1, intermediate_size=24,
        vocabulary=320, vision_size=16, vision_layers=1, vision_heads=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("narrow") / "narrow"
    folder.mkdir()
    build_fresh(settings, ["a red circle"] * 9).save(folder)
    return folder


def test_a_teacher_of_another_width_can_teach_scores_only(
    settings: DistillSettings, narrow: Path
) -> None:
    other = replace(settings, student=str(narrow))
    with pytest.raises(ConfigError, match="have 16 dimensions, the teacher's 32"):
        distill(other)
    assert not settings.output_dir.exists()
    scores = replace(other, loss=LossSettings(similarity=1.0))
    assert distill(scores).finished


@pytest.mark.parametrize("kind", ["ridge", "learned"])
def test_a_projection_lets_a_teacher_of_another_width_teach_entries(
    settings: DistillSettings, pruned: Path, narrow: Path, tmp_path: Path, kind: str
) -> None:
    # Here the teacher is the narrow one, and its embeddings are kept.
    loss = LossSettings(mse=0.5, cosine=1.0, bank=0.5, bank_size=20, projection=kind)
    whole = replace(
        settings,
        teacher=str(narrow),
        loss=loss,
        train=replace(settings.train, cache_teacher=True),
        output_dir=tmp_path / "whole",
    )
    assert distill(whole).finished
    assert sorted(weights(whole.output_dir)) == sorted(weights(pruned))
    parts = replace(whole, output_dir=tmp_path / "parts")
    with pytest.raises(Stopped, match="after step 4 of 6"):
        distill(parts, SignalAt(4, signal.SIGTERM))
    assert (parts.output_dir / "training" / "projection.safetensors").is_file()
    assert distill(replace(parts, resume=True)).finished
    expected, found = (weights(each.output_dir / "last") for each in (whole, parts))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_hints_are_the_same_from_one_copy_and_from_the_cache(
    settings: DistillSettings, tmp_path: Path
) -> None:
    loss = LossSettings(mse=0.1, hints=1.0)
    lora = LoraSettings(rank=4, alpha=8, dropout=0.0)
    ways = {
        "shared": replace(settings, loss=loss, lora=lora),
        "cached": replace(
            settings, loss=loss, lora=lora, train=replace(settings.train, cache_teacher=True)
        ),
    }
    logs = {}
    for name, way in ways.items():
        fixed = replace(way.batch, instruction="first")
        distill(replace(way, batch=fixed, output_dir=tmp_path / name))
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        logs[name] = [row for row in map(json.loads, lines) if "loss" in row]
    for ours, theirs in zip(*logs.values(), strict=True):
        assert ours["hints"] > 0
        for term in ("loss", "hints", "mse"):
            assert ours[term] == pytest.approx(theirs[term], rel=1e-5)


def test_a_loss_that_compares_needs_a_teacher(settings: DistillSettings) -> None:
    with pytest.raises(ConfigError, match="the teacher is 'none'"):
        distill(replace(settings, teacher="none"))


def test_a_teacher_without_a_part_in_the_loss_is_refused(settings: DistillSettings) -> None:
    with pytest.raises(ConfigError, match="has no part in the loss"):
        distill(replace(settings, loss=LossSettings()))


def test_a_loss_that_leaves_the_finite_numbers_stops_the_training(
    settings: DistillSettings,
) -> None:
    wild = OptimizerSettings(learning_rate=1e30, warmup=0.0)
    with pytest.raises(NumericError, match="The loss is"):
        distill(replace(settings, optimizer=wild))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_formats_that_cannot_be_trained_in_are_refused(
    settings: DistillSettings, dtype: str
) -> None:
    with pytest.raises(ConfigError, match=f"Training with --dtype {dtype} on cpu"):
        distill(replace(settings, dtype=dtype))
    assert not settings.output_dir.exists()


def test_resuming_what_is_not_there_is_an_error(settings: DistillSettings) -> None:
    with pytest.raises(OutputError, match="no training to resume"):
        distill(replace(settings, resume=True))
    assert not settings.output_dir.exists()


def test_broken_images_end_a_training_or_are_counted(
    settings: DistillSettings, tiny_scenes: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_scenes, data)
    pool = MbeirFolder(data).union_pool("train")
    images = [each.image for each in pool if each.image is not None]
    images[0].write_bytes(b"no image")
    images[1].unlink()
    asked = replace(settings, data=data, train=replace(settings.train, steps=20))
    with pytest.raises(DataError, match=r"cannot be decoded|is missing"):
        distill(asked)
    notes: list[str] = []

    class Notes(Reporter):
        def note(self, text: str) -> None:
            notes.append(text)

    skipping = replace(asked, batch=replace(asked.batch, bad_images="skip"))
    for name, cached in (("asked", False), ("cached", True)):
        way = replace(
            skipping,
            output_dir=tmp_path / name,
            train=replace(skipping.train, cache_teacher=cached),
        )
        assert distill(way, Notes()).finished
    assert any("could not be read, and what shows them was left out" in note for note in notes)


def test_a_limit_on_pixels_holds_for_the_teacher_and_the_student(
    settings: DistillSettings, tmp_path: Path
) -> None:
    cache = tmp_path / "kept"
    asked = replace(
        settings,
        batch=replace(settings.batch, max_pixels=784),
        train=replace(settings.train, cache_teacher=True, cache_dir=str(cache)),
    )
    distill(asked)
    assert load(settings.output_dir, "cpu").settings.max_pixels == 784
    kept = {folder.name: sorted(folder.iterdir()) for folder in cache.iterdir()}
    distill(replace(asked, batch=settings.batch, output_dir=tmp_path / "other"))
    # What the teacher said of small images is not what it says of whole ones.
    assert len(list(cache.iterdir())) == 2
    assert all(sorted((cache / name).iterdir()) == files for name, files in kept.items())
