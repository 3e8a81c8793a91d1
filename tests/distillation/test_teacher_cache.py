"""A cached teacher teaches what the teacher teaches, and survives a stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import DistillSettings, LossSettings
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation import teacher_cache
from puma_cli.distillation.distill import distill
from puma_cli.distillation.teacher_cache import TeacherCache, identify_teacher, planned_inputs
from puma_cli.encoding import shards
from puma_cli.errors import ConfigError, DataError
from puma_cli.interruption import Stopped, StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.progress import SILENT, Reporter

T = TypeVar("T")


@pytest.fixture(scope="module")
def embedder(tiny_checkpoint: Path) -> Embedder:
    return load(tiny_checkpoint, "cpu")


@pytest.fixture
def settings(settings: DistillSettings) -> DistillSettings:
    return replace(
        settings,
        loss=replace(settings.loss, contrastive="info_nce"),
        batch=replace(settings.batch, instruction="first"),
        train=replace(settings.train, steps=12, validate_every=6, cache_teacher=True),
    )


class SignalInTeacher(Reporter):
    """Sends this process Ctrl-C while the teacher reads."""

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        for number, item in enumerate(items):
            if label == "teacher" and number == 24:
                os.kill(os.getpid(), signal.SIGINT)
            yield item


def cache_of(
    folder: Path, data: MbeirFolder, teacher: str = "x"
) -> tuple[TeacherCache, list[Input]]:
    queries = data.train_queries("*")
    order = BatchOrder(queries, 8, "task", 0)
    examples = Examples(queries, data.union_pool("train"), data.instructions, "first", 0)
    inputs = planned_inputs(order, examples, 5)
    return TeacherCache(folder, inputs, teacher, verify=False), inputs


@pytest.mark.parametrize("rank", [0, 4])
def test_losses_are_those_of_a_teacher_asked_at_every_step(
    settings: DistillSettings, rank: int, tmp_path: Path
) -> None:
    cached = replace(settings, lora=LoraSettings(rank=rank, alpha=8, dropout=0.0))
    asked = replace(
        cached,
        output_dir=tmp_path / "asked",
        train=replace(settings.train, cache_teacher=False),
    )
    logs = []
    for each in (cached, asked):
        distill(each)
        lines = (each.output_dir / "log.jsonl").read_text().splitlines()
        logs.append([line for line in map(json.loads, lines) if "loss" in line])
    assert [line["step"] for line in logs[0]] == [1, 10, 12]
    for ours, theirs in zip(*logs, strict=True):
        for name in ("loss", "info_nce", "mse", "cosine", "similarity", "gradient_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name


def test_a_stop_while_the_teacher_reads_changes_nothing(
    settings: DistillSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_cache, "ROWS", 16)
    whole = replace(settings, output_dir=tmp_path / "whole")
    distill(whole)
    with pytest.raises(Stopped, match="after step 0 of 12"):
        distill(settings, SignalInTeacher())
    kept = list((settings.output_dir / "training" / "teacher").rglob("*.safetensors"))
    # What was computed before the stop stays.
    assert 0 < sum(len(load_file(file)["keys"]) for file in kept) <= 24
    assert distill(replace(settings, resume=True)).finished
    expected, found = (
        load_file(each.output_dir / "model.safetensors") for each in (whole, settings)
    )
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert not (settings.output_dir / "training").exists()


def test_vectors_are_the_teachers(
    embedder: Embedder, tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_cache, "ROWS", 7)
    cache, inputs = cache_of(tmp_path, MbeirFolder(tiny_scenes))
    assert len(cache) == len(set(inputs)) == len(inputs)
    assert cache.fill(lambda: embedder, SILENT, StopRequest())
    chosen = [inputs[place] for place in (20, 0, 7, 7, 6)]
    with torch.no_grad():
        expected = embedder.embed(embedder.collate(chosen))
    torch.testing.assert_close(cache.vectors(chosen), expected, rtol=1e-4, atol=1e-5)


def test_only_files_that_do_not_fit_are_made_anew(
    embedder: Embedder, tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_cache, "ROWS", 16)
    data = MbeirFolder(tiny_scenes)
    cache_of(tmp_path, data)[0].fill(lambda: embedder, SILENT, StopRequest())

    def no_teacher() -> Embedder:
        raise AssertionError("nothing is missing")

    again, inputs = cache_of(tmp_path, data)
    assert again.fill(no_teacher, SILENT, StopRequest())
    files = sorted(tmp_path.rglob("*.safetensors"))
    before = {file: file.stat().st_mtime_ns for file in files}
    files[1].write_bytes(files[1].read_bytes()[:-40])
    assert cache_of(tmp_path, data)[0].fill(lambda: embedder, SILENT, StopRequest())
    changed = {file for file in files if file.stat().st_mtime_ns != before[file]}
    assert changed == {files[1]}
    other, _ = cache_of(tmp_path, data, teacher="another")
    with pytest.raises(AssertionError):
        other.fill(no_teacher, SILENT, StopRequest())
    assert again.vectors(inputs[:3]).shape == (3, embedder.dimension)


def test_trainings_share_what_they_have_in_common(
    settings: DistillSettings, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    train = replace(settings.train, cache_dir=str(kept), verify_cache=False)
    read = [0]
    for number, (seed, steps) in enumerate([(0, 12), (0, 12), (0, 18), (1, 12)]):
        distill(
            replace(
                settings,
                output_dir=tmp_path / str(number),
                seed=seed,
                train=replace(train, steps=steps),
            )
        )
        read.append(sum(len(load_file(file)["keys"]) for file in kept.rglob("*.safetensors")))
    alone = tmp_path / "alone"
    distill(replace(settings, output_dir=alone, seed=1))
    # The second training read nothing; the others what theirs have and no other had.
    first, second, third, fourth = (after - before for before, after in pairwise(read))
    assert second == 0 < third and first > third and 0 < fourth < first
    expected, found = (load_file(each / "model.safetensors") for each in (alone, tmp_path / "3"))
    assert all(torch.allclose(expected[key], found[key], atol=1e-3) for key in expected)


def test_an_image_that_changed_is_read_again(
    embedder: Embedder, tiny_scenes: Path, tmp_path: Path
) -> None:
    image, pictures = tmp_path / "image.png", sorted(tiny_scenes.rglob("*.png"))
    read = []
    for stamp, shown in enumerate((0, 0, 1)):
        image.write_bytes(pictures[shown].read_bytes())
        cache = TeacherCache(tmp_path / "kept", [Input(image=image)], "x", verify=False)

        def opened(stamp: int = stamp) -> Embedder:
            read.append(stamp)
            return embedder

        cache.fill(opened, SILENT, StopRequest())
    assert read == [0, 2]


def test_two_names_of_one_image_are_one_input(
    embedder: Embedder, tiny_scenes: Path, tmp_path: Path
) -> None:
    image, link = tmp_path / "image.png", tmp_path / "link.png"
    shutil.copy(next((tiny_scenes).rglob("*.png")), image)
    link.symlink_to(image)
    inputs = [Input(image=image), Input(image=link), Input(text="a")]
    cache = TeacherCache(tmp_path / "kept", inputs, "x")
    assert cache.fill(lambda: embedder, SILENT, StopRequest())
    first, second, _ = cache.vectors(inputs)
    assert torch.equal(first, second)
    (file,) = (tmp_path / "kept").rglob("*.safetensors")
    assert len(load_file(file)["keys"]) == 2


def test_trainings_may_fill_one_folder_at_the_same_time(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [Input(text=text) for text in "abc"]
    one, other = (TeacherCache(tmp_path, inputs, "x") for _ in range(2))

    def overtaken(*written: Any) -> None:
        save_file(*written)
        with monkeypatch.context() as patch:
            patch.setattr(shards, "save_file", save_file)
            other.fill(lambda: embedder, SILENT, StopRequest())

    monkeypatch.setattr(shards, "save_file", overtaken)
    assert one.fill(lambda: embedder, SILENT, StopRequest())
    assert torch.equal(one.vectors(inputs), other.vectors(inputs))
    (folder,) = tmp_path.iterdir()
    assert sorted(file.suffix for file in folder.iterdir()) == [".json", ".safetensors"]


def test_a_teacher_is_known_by_its_small_files_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    shutil.copytree(tiny_checkpoint, folder)
    before = identify_teacher(folder)
    assert before == identify_teacher(tiny_checkpoint)
    file = folder / "preprocessor_config.json"
    text = file.read_text()
    file.write_text(text.replace("0", "1", 1))
    assert len(file.read_text()) == len(text)
    assert identify_teacher(folder) != before


def test_a_folder_without_a_cache_is_refused(settings: DistillSettings) -> None:
    train = replace(settings.train, cache_teacher=False, cache_dir="kept")
    with pytest.raises(ConfigError, match="nothing is cached"):
        distill(replace(settings, train=train))


def test_a_query_keeps_its_instruction(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    queries = data.train_queries("*")
    pool = data.union_pool("train")
    free, fixed = (
        Examples(queries, pool, data.instructions, "seeded", 0, fixed=fixed)
        for fixed in (False, True)
    )
    indices = range(40)
    assert fixed.batch(indices, 0).inputs[:40] == fixed.batch(indices, 3).inputs[:40]
    assert free.batch(indices, 0).inputs[:40] != free.batch(indices, 3).inputs[:40]
    assert len({entry.instruction for entry in fixed.batch(indices, 0).inputs[:40]}) > 2


def test_random_views_cannot_be_kept(settings: DistillSettings) -> None:
    asked = replace(settings, batch=replace(settings.batch, augment=True))
    with pytest.raises(ConfigError, match="augment"):
        distill(asked)
    assert not settings.output_dir.exists()


def test_the_teacher_is_not_loaded_twice(
    settings: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counted(model: str | Path, *rest: str) -> Embedder:
        opened.append(str(model))
        return load(model, *rest)

    monkeypatch.setattr("puma_cli.distillation.running.load", counted)
    distill(settings)
    assert opened.count(settings.teacher) == 1


@pytest.mark.parametrize(
    ("dtype", "bound"), [("float32", 3e-6), ("float16", 1e-4), ("bfloat16", 1e-3)]
)
def test_one_copy_two_copies_and_the_cache_teach_the_same(
    settings: DistillSettings, pruned: Path, tmp_path: Path, dtype: str, bound: float
) -> None:
    """The losses of 20 steps, relative; half precision moves them by no more than its rounding."""
    apart = tmp_path / "apart"
    shutil.copytree(pruned, apart)
    # Without its history a student is a model of its own, and its teacher another.
    (apart / "puma.json").unlink()
    whole = replace(
        settings,
        lora=LoraSettings(rank=4, alpha=8, dropout=0.0),
        loss=LossSettings("mac", mse=0.1, cosine=0.5, similarity=0.2, gram=0.3),
        train=replace(settings.train, steps=20, validation_limit=0, cache_teacher=False),
    )
    cached = replace(whole.train, cache_teacher=True, cache_dtype=dtype)
    ways = {"one": whole, "two": replace(whole, student=str(apart))}
    ways["cached"] = replace(whole, train=cached)
    found = {}
    for name, way in ways.items():
        losses = Losses()
        distill(replace(way, output_dir=tmp_path / name), losses)
        found[name] = torch.tensor(losses.values)
    assert len(found["one"]) == 20 and found["one"].std() > 0
    torch.testing.assert_close(found["two"], found["one"], rtol=1e-6, atol=0)
    torch.testing.assert_close(found["cached"], found["one"], rtol=bound, atol=0)


class Losses(Reporter):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        self.values.append(values["loss"])


def test_embeddings_that_the_teacher_would_not_give_today_are_refused(
    embedder: Embedder, tiny_scenes: Path, tmp_path: Path
) -> None:
    def again(verify: bool = True) -> bool:
        cache, inputs = cache_of(tmp_path, MbeirFolder(tiny_scenes))
        cache = TeacherCache(tmp_path, inputs, "x", verify=verify)
        return cache.fill(lambda: embedder, SILENT, StopRequest())

    assert again() and again()
    for file in tmp_path.rglob("*.safetensors"):
        shard = shards.read_shard(file)
        assert shard is not None
        file.unlink()
        shards.write_shard(file.parent, shard.keys, shard.vectors + 0.1 * shard.vectors.flip(0))
    with pytest.raises(DataError, match="are not what it gives now"):
        again()
    assert again(verify=False)
