"""A forecast takes the training's own steps, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from puma_cli.cli.app import run
from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import (
    DistillSettings,
    FreshSettings,
    LossSettings,
    TrainSettings,
)
from puma_cli.distillation.distill import distill
from puma_cli.distillation.forecast import forecast
from puma_cli.distillation.forecast import peak as peak_module
from puma_cli.distillation.forecast.forecast import Forecast, forecast_training
from puma_cli.distillation.forecast.peak import PeakMemory
from puma_cli.distillation.step import Outcome, Step
from puma_cli.errors import ConfigError, NumericError
from puma_cli.progress import Reporter

LORA = LoraSettings(rank=4, alpha=8, dropout=0.1)


class Losses(Reporter):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        self.values.append(values["loss"])


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which has to be empty in the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def chunked(settings: DistillSettings) -> DistillSettings:
    return replace(settings, batch=replace(settings.batch, chunk_tokens=150, accumulate=2))


def cached(settings: DistillSettings) -> DistillSettings:
    return replace(settings, train=replace(settings.train, cache_teacher=True))


def fresh(settings: DistillSettings) -> DistillSettings:
    sizes = FreshSettings(
        hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=48, vocabulary=320,
        vision_size=32, vision_layers=1, vision_heads=2,
    )  # fmt: skip
    train = replace(settings.train, freeze_vision=False, train_embeddings=True)
    return replace(
        settings, student="fresh", teacher="none", fresh=sizes, loss=LossSettings(), train=train
    )


@pytest.mark.parametrize(
    ("way", "change"),
    [
        ("full", lambda settings: settings),
        ("adapters", lambda settings: replace(settings, lora=LORA)),
        ("chunks", lambda settings: chunked(replace(settings, lora=LORA))),
        ("cached", cached),
        ("fresh", fresh),
        ("projected", lambda s: replace(s, loss=replace(s.loss, projection="ridge"))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_steps_are_those_of_the_training(
    settings: DistillSettings, scratch: Path, way: str, change: object
) -> None:
    settings = change(settings)  # type: ignore[operator]
    found = forecast_training(settings)
    assert not settings.output_dir.exists()
    assert not list(scratch.iterdir())
    measured = found.measured
    assert measured is not None and measured.steps == 3
    losses = Losses()
    distill(settings, losses)
    assert len(losses.values) == found.steps == 6
    if way == "projected":
        # Its map is fitted to the inputs of these steps alone.
        assert len(measured.losses) == 4
    else:
        assert measured.losses == pytest.approx(losses.values[:4], rel=1e-6)
    assert measured.seconds["steps"] == pytest.approx(6 * measured.step_seconds)
    assert found.seconds == pytest.approx(sum(measured.seconds.values()))
    assert set(measured.seconds) >= {"steps", "validations"}
    assert ("teacher_cache" in measured.seconds) == (way == "cached")
    assert ("teacher_validation" in measured.seconds) == (way != "fresh")
    assert found.one_copy == (way in ("adapters", "chunks"))
    # A process that held more before, as that of other tests may have, says nothing.
    assert measured.memory is None or measured.memory > 0


def test_a_taken_output_folder_is_not_touched(settings: DistillSettings) -> None:
    settings.output_dir.mkdir()
    (settings.output_dir / "mine.txt").write_text("keep me", encoding="utf-8")
    before = contents(settings.output_dir.parent)
    found = forecast_training(settings, steps=1)
    assert found.measured is not None and len(found.measured.losses) == 2
    assert contents(settings.output_dir.parent) == before


def test_without_steps_no_weight_is_read(
    settings: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*args: object) -> None:
        raise AssertionError("a model is opened")

    monkeypatch.setattr("puma_cli.distillation.running.load", opened)
    found = forecast_training(cached(settings), steps=0)
    assert found.measured is None and found.seconds is None
    assert found.memory.total > 0 and found.cache is not None


def test_a_short_training_is_measured_in_its_one_step(settings: DistillSettings) -> None:
    found = forecast_training(replace(settings, train=TrainSettings(steps=1, validation_limit=0)))
    assert found.measured is not None
    assert found.measured.steps == len(found.measured.losses) == 1
    assert "validations" not in found.measured.seconds


class Interrupted(Reporter):
    """Presses Ctrl-C after the second step."""

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        if done == 2:
            raise KeyboardInterrupt


def test_an_interrupted_or_failed_forecast_leaves_nothing(
    settings: DistillSettings, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        forecast_training(settings, Interrupted())
    assert not list(scratch.iterdir())
    plain = Step.backward

    def lost(self: Step, *args: Any) -> Outcome:
        found = plain(self, *args)
        return replace(found, loss=found.loss * float("nan"))

    monkeypatch.setattr(Step, "backward", lost)
    with pytest.raises(NumericError) as failure:
        forecast_training(settings)
    assert "failed_batch" not in str(failure.value)
    assert not list(scratch.iterdir())
    assert not settings.output_dir.exists()


def test_a_kept_cache_is_counted_and_left_alone(settings: DistillSettings, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    settings = cached(settings)
    train = replace(settings.train, cache_dir=str(kept), cache_dtype="float16")
    settings = replace(settings, train=train)
    before = forecast_training(settings)
    assert not kept.exists()
    assert before.cache is not None and before.measured is not None
    assert before.cache.missing == before.cache.inputs > 0
    assert before.measured.seconds["teacher_cache"] > 0
    distill(settings)
    size = sum(path.stat().st_size for path in kept.rglob("*.safetensors"))
    # Beside its rows a file has a header.
    assert 0 < size - before.cache.bytes < 400
    files = contents(kept)
    after = forecast_training(replace(settings, overwrite=True))
    assert after.cache is not None and after.measured is not None
    assert after.cache.missing == after.cache.missing_bytes == 0
    assert after.measured.seconds["teacher_cache"] == 0
    assert after.measured.losses == pytest.approx(before.measured.losses, rel=1e-3)
    longer = replace(settings, train=replace(train, steps=12))
    more = forecast_training(longer)
    assert more.cache is not None and more.measured is not None
    assert 0 < more.cache.missing < more.cache.inputs
    assert more.measured.seconds["teacher_cache"] > 0
    assert contents(kept) == files


def test_what_does_not_fit_is_said_with_ways_out(
    settings: DistillSettings, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Step, *args: object, **named: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Step, "backward", full)
    found = forecast_training(settings)
    assert found.measured is None
    assert found.memory.total > 0
    assert len(found.remedies) == 3
    assert not list(scratch.iterdir())


def test_settings_that_contradict_are_refused(settings: DistillSettings) -> None:
    with pytest.raises(ConfigError, match="no part in the loss"):
        forecast_training(replace(settings, loss=LossSettings()))
    with pytest.raises(ConfigError, match="dry run"):
        distill(replace(settings, dry_run=True))
    assert not settings.output_dir.exists()


def words(settings: DistillSettings) -> list[str]:
    return [
        "distill", settings.student, "--teacher", settings.teacher, "--data", str(settings.data),
        "--steps", "6", "--batch-size", "8", "--set", "train.validation_limit=2",
        "--device", "cpu", "--dry-run",
    ]  # fmt: skip


def test_the_command_says_it_in_tables_and_in_numbers(
    settings: DistillSettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Forecast] = []
    plain = forecast.forecast_training

    def noted(*args: Any, **named: Any) -> Forecast:
        found.append(plain(*args, **named))
        return found[-1]

    monkeypatch.setattr(forecast, "forecast_training", noted)
    monkeypatch.chdir(settings.output_dir.parent)
    caching = ["--set", "train.cache_teacher=true", "-o", str(settings.output_dir.parent)]
    assert run([*words(settings), *caching, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (known,) = found
    assert known.measured is not None and known.cache is not None
    assert said["steps"] == 6 and said["queries"] == known.queries and said["batch"] == 8
    assert said["memory"].pop("total") == sum(said["memory"].values()) == known.memory.total
    assert said["measured"]["memory"] == known.measured.memory
    assert said["seconds"] == known.seconds
    assert said["cache"]["bytes"] == known.cache.bytes
    assert "entries" not in said["cache"]

    assert run([*words(settings), "--lora-rank", "4"]) == 0
    printed = capsys.readouterr()
    for text in ("training queries", "its further layers", "activations of a pass", "Dry run"):
        assert text in printed.out
    assert "3 measured steps" in printed.out
    assert "without --dry-run" in printed.err
    assert run([*words(settings), "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == str(found[-1].peak)
    assert sorted(path.name for path in Path().iterdir()) == ["scratch"]


def test_two_processes_measure_together(settings: DistillSettings, scratch: Path) -> None:
    more = ["--lora-rank", "4", "--num-processes", "2", "--set", "train.strategy=fsdp2", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "puma_cli", *words(settings), *more],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["processes"] == 2 and said["one_copy"]
    assert len(said["measured"]["losses"]) == 4
    assert said["measured"]["memory"] > 0
    alone = forecast_training(replace(settings, lora=LoraSettings(rank=4)), steps=0)
    # Norms of odd widths aside, half of what trains, and of the teacher's further layers.
    assert said["memory"]["gradients"] == alone.memory.gradients / 2
    assert said["memory"]["teacher"] == alone.memory.teacher / 2
    assert said["memory"]["activations"] < alone.memory.activations
    assert not list(scratch.iterdir())


def test_stages_are_forecast_one_by_one(
    settings: DistillSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "two.yaml"
    recipe.write_text("stages:\n  - name: a\n  - name: b\n", encoding="utf-8")
    asked = [*words(settings), "--lora-rank", "4", "--config", str(recipe)]
    assert run([*asked, "--print-config"]) == 0
    assert [each["name"] for each in yaml.safe_load(capsys.readouterr().out)["stages"]] == [
        "a",
        "b",
    ]
    assert run(asked) == 0
    printed = capsys.readouterr().out
    assert "Stage b, as if it began from" in printed
    # What adapters are added to between the stages is no longer the teacher's.
    assert printed.count("its further layers") == 1


def test_several_processes_forecast_stages_too(
    settings: DistillSettings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "one.yaml"
    recipe.write_text("stages:\n  - name: a\n", encoding="utf-8")
    asked = [*words(settings), "--config", str(recipe), "--json", "--num-processes", "2"]
    assert run(asked) == 0
    assert json.loads(capfd.readouterr().out)["stages"]["a"]["processes"] == 2


def test_what_was_freed_before_counts_as_growth() -> None:
    """As many small blocks as fill 64 MB stay with the allocator, unless it is told to let go."""
    blocks = [torch.ones(4096) for _ in range(4096)]
    del blocks
    peak = PeakMemory(torch.device("cpu"))
    again = [torch.ones(4096) for _ in range(4096)]
    grown = peak.read()
    assert len(again) == 4096 and grown is not None and grown > 32 * 2**20


def test_no_growth_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_module, "resident", lambda: 2**60)
    assert PeakMemory(torch.device("cpu")).read() is None
