"""A training that runs out of memory says what would help, in numbers, and keeps its last state."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from puma_cli.cli.app import run
from puma_cli.config.changes import flattened
from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import DistillSettings, LossSettings
from puma_cli.data.training_data import open_training_data
from puma_cli.distillation import preparation
from puma_cli.distillation.distill import distill
from puma_cli.distillation.forecast import remedies as remedies_module
from puma_cli.distillation.forecast.memory import largest_pass, plan_memory
from puma_cli.distillation.forecast.remedies import find_remedies
from puma_cli.distillation.forecast.survey import Survey, survey
from puma_cli.distillation.output import TrainingFolder
from puma_cli.distillation.step import Outcome, Step
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.encoding.out_of_memory import out_of_memory_explained
from puma_cli.errors import DeviceError
from puma_cli.processes import ALONE
from puma_cli.report.numbers import size_on_disk

SAID = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB."


def lack() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError(f"{SAID}\nOf the allocated memory 7 GiB is by PyTorch.")


@pytest.fixture
def saving(settings: DistillSettings) -> DistillSettings:
    train = replace(settings.train, validate_every=100, save_every=2, validation_limit=0)
    return replace(settings, train=train)


@pytest.fixture
def full_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets the device be full inside a batch's step, after its backward pass."""
    plain = Step.backward

    def full_at(number: int) -> None:
        calls = 0

        def backward(self: Step, *args: Any) -> Outcome:
            nonlocal calls
            calls += 1
            found = plain(self, *args)
            if calls == number:
                raise lack()
            return found

        monkeypatch.setattr(Step, "backward", backward)

    return full_at


def look(settings: DistillSettings, tmp_path: Path) -> Survey:
    data = open_training_data(settings)
    return survey(settings, data, TrainingFolder(tmp_path / "none"), ALONE)


def test_the_last_state_is_kept_and_goes_on_with_less(
    saving: DistillSettings, full_at: Callable[[int], None], tmp_path: Path
) -> None:
    whole = replace(saving, output_dir=tmp_path / "whole")
    distill(whole)
    full_at(6)
    with pytest.raises(DeviceError, match="after 5 of 6 steps") as failure:
        distill(saving)
    error = failure.value
    assert error.cause.splitlines()[0] == SAID
    assert "activations" in error.cause
    assert "The state of step 4 is saved" in error.hint
    assert "--resume" in error.hint and "--overwrite" in error.hint
    state = saving.output_dir / "training"
    assert [path.name for path in state.glob("state-*")] == ["state-00000004"]

    found = re.search(r"(\d)\. --set batch.chunk_tokens=(\d+): .*half of the ([\d,]+)", error.hint)
    assert found is not None
    half, now = int(found[2]), int(found[3].replace(",", ""))
    assert half == now // 2
    first = re.search(r"the same command with ([\d or]+) and --resume", error.hint)
    assert first is not None and found[1] in first[1]
    less = replace(
        saving,
        resume=True,
        batch=replace(saving.batch, chunk_tokens=half),
        train=replace(saving.train, checkpoint_activations=True),
    )
    assert distill(less).finished
    # Without dropout, a batch in chunks has the gradients of the whole.
    expected, ours = (load_file(each.output_dir / "model.safetensors") for each in (whole, saving))
    assert all(torch.allclose(expected[name], ours[name], atol=1e-4) for name in expected)


def test_a_training_without_a_state_starts_again(
    saving: DistillSettings, full_at: Callable[[int], None]
) -> None:
    full_at(1)
    with pytest.raises(DeviceError, match="after 0 of 6 steps") as failure:
        distill(saving)
    assert "No state was saved yet" in failure.value.hint
    full_at(0)
    assert distill(replace(saving, overwrite=True)).finished


def test_models_that_do_not_fit_leave_nothing(
    saving: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise lack()

    monkeypatch.setattr(preparation, "Pair", full)
    with pytest.raises(DeviceError, match="before its first step") as failure:
        distill(saving)
    assert failure.value.hint.splitlines()[-1] == "Nothing was written."
    assert not saving.output_dir.exists()


def test_a_teacher_that_does_not_fit_is_no_matter_of_the_batch(
    saving: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What encodes says --batch-size, which here is the contrastive batch."""

    def full(*args: object) -> None:
        with out_of_memory_explained(128):
            raise lack()

    monkeypatch.setattr(TeacherCache, "fill", full)
    train = replace(saving.train, cache_teacher=True)
    with pytest.raises(DeviceError) as failure:
        distill(replace(saving, train=train))
    assert failure.value.cause.splitlines()[0] == SAID
    assert "--batch-size 32" not in failure.value.hint
    assert "cache_teacher" not in failure.value.hint


@pytest.mark.parametrize(
    "error",
    [RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes."), MemoryError()],
    ids=["cpu", "python"],
)
def test_other_allocators_are_understood(
    saving: DistillSettings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*args: object) -> None:
        raise error

    monkeypatch.setattr(Step, "backward", full)
    with pytest.raises(DeviceError, match="ran out of memory") as failure:
        distill(saving)
    assert failure.value.cause.splitlines()[0] in (str(error), "MemoryError")


def test_another_error_is_left_alone(
    saving: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(Step, "backward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        distill(saving)


def test_remedies_are_ordered_and_not_in_effect(settings: DistillSettings, tmp_path: Path) -> None:
    found, before = look(settings, tmp_path), None
    before = plan_memory(settings, found)
    remedies = find_remedies(settings, found)
    assert len(remedies) == 3
    assert [each.saves for each in remedies] == sorted((r.saves for r in remedies), reverse=True)
    assert all("batch-size" not in each.change for each in remedies)
    for each in remedies:
        name, value = change_of(each.change)
        known = str(flattened_of(settings)[name]).lower()
        assert known != value, name
        changed = changed_by(settings, name, value)
        after = plan_memory(changed, found)
        assert each.saves == before.total - after.total > 0
        if name in ("batch.chunk_tokens", "train.checkpoint_activations"):
            assert each.resumable
            assert size_on_disk(before.activations) in each.effect
            assert size_on_disk(after.activations) in each.effect
        if name == "batch.chunk_tokens":
            assert f"{largest_pass(settings, found):,}" in each.effect
            assert largest_pass(changed, found) <= int(value)
        if name == "train.cache_teacher":
            assert size_on_disk(before.teacher) in each.effect


def test_more_processes_may_divide_the_decoder(settings: DistillSettings, tmp_path: Path) -> None:
    settings = replace(settings, teacher="none", loss=LossSettings())
    found = replace(look(settings, tmp_path), processes=64)
    assert any("strategy=fsdp2" in each.change for each in find_remedies(settings, found))
    assert not any(
        "fsdp2" in each.change for each in find_remedies(settings, replace(found, processes=1))
    )


@pytest.mark.parametrize(
    ("train", "lora", "left_out"),
    [
        ({"freeze_vision": False}, {}, "--lora-rank"),
        ({"train_embeddings": True}, {}, "--lora-rank"),
        ({}, {"rank": 4, "base_dtype": "bfloat16"}, "fsdp2"),
    ],
)
def test_no_change_is_proposed_that_would_be_refused(
    settings: DistillSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train: dict[str, Any],
    lora: dict[str, Any],
    left_out: str,
) -> None:
    monkeypatch.setattr(remedies_module, "MOST", 99)
    # The tiny model's moments are less than what adapters of the usual rank keep of a batch.
    monkeypatch.setattr(remedies_module, "RANK", 1)
    batch = replace(settings.batch, chunk_tokens=1)
    plain = replace(settings, teacher="none", loss=LossSettings(), batch=batch)
    asked = replace(plain, train=replace(plain.train, **train), lora=replace(plain.lora, **lora))
    base = replace(plain, lora=LoraSettings(rank=4)) if lora else plain
    found = replace(look(plain, tmp_path), processes=64)
    assert any(left_out in each.change for each in find_remedies(base, found))
    assert not any(left_out in each.change for each in find_remedies(asked, found))


def test_a_smaller_batch_comes_last_and_is_not_passed_over_in_silence(
    settings: DistillSettings, tmp_path: Path
) -> None:
    train = replace(settings.train, cache_teacher=True, checkpoint_activations=True)
    settings = replace(
        settings,
        lora=LoraSettings(rank=1),
        train=train,
        # A chunk is one input already.
        batch=replace(settings.batch, chunk_tokens=1),
    )
    remedies = find_remedies(settings, look(settings, tmp_path))
    assert [each.change for each in remedies] == ["--batch-size 4"]
    assert "fewer negatives: scores will differ" in remedies[-1].effect


def test_the_command_ends_with_the_ways_out(
    saving: DistillSettings,
    full_at: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    full_at(3)
    words = [
        "distill", saving.student, "--teacher", saving.teacher, "--data", str(saving.data),
        "-o", str(saving.output_dir), "--steps", "6", "--batch-size", "8", "--device", "cpu",
        "--set", "train.validation_limit=0", "--set", "train.save_every=2",
    ]  # fmt: skip
    assert run(words) == 1
    said = capsys.readouterr().err
    assert "Error: The training ran out of memory after 2 of 6 steps." in said
    assert all(f"  {number}. --" in said for number in (1, 2, 3))
    assert "The state of step 2 is saved" in said
    assert "Traceback" not in said


def change_of(words: str) -> tuple[str, str]:
    if words.startswith("--lora-rank"):
        return "lora.rank", words.split()[1]
    name, _, value = words.removeprefix("--set ").partition("=")
    return name, value


def flattened_of(settings: DistillSettings) -> dict[str, Any]:
    from puma_cli.checkpoint.provenance import to_plain

    return flattened(to_plain(settings))


def changed_by(settings: DistillSettings, name: str, value: str) -> DistillSettings:
    room, _, field = name.partition(".")
    known: Any = True if value == "true" else int(value)
    part = replace(getattr(settings, room), **{field: known})
    return replace(settings, **{room: part})
