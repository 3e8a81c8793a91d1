"""Queries that train alone, among candidates that are the teacher's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import (
    BatchSettings,
    DistillSettings,
    LossSettings,
    TrainSettings,
)
from puma_cli.data.examples import ContrastiveBatch, Examples
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation.checks import check_training
from puma_cli.distillation.distill import distill
from puma_cli.distillation.objective import Embeddings, Objective
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.step import Step
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.errors import ConfigError
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load
from puma_cli.progress import SILENT

LOSS = LossSettings("mac", symmetric=True, cosine=0.5, similarity=0.2, frozen_candidates=True)


@pytest.fixture(scope="module")
def batch(tiny_scenes: Path) -> ContrastiveBatch:
    data = MbeirFolder(tiny_scenes)
    queries = data.train_queries("*")
    examples = Examples(queries, data.union_pool("train"), data.instructions, "first", 0)
    return examples.batch(range(0, len(queries), len(queries) // 11), epoch=0)


def cached(teacher: Embedder, batch: ContrastiveBatch, folder: Path) -> TeacherCache:
    cache = TeacherCache(folder, batch.inputs, "teacher", verify=False)
    assert cache.fill(lambda: teacher, SILENT, StopRequest())
    return cache


@pytest.mark.parametrize("how", [BatchSettings(), BatchSettings(chunk_tokens=150)])
def test_gradients_are_those_of_the_queries_among_constants(
    pruned: Path,
    tiny_checkpoint: Path,
    batch: ContrastiveBatch,
    tmp_path: Path,
    how: BatchSettings,
) -> None:
    teacher = load(tiny_checkpoint, "cpu")
    student = load(pruned, "cpu")
    cache = cached(teacher, batch, tmp_path / "cache")
    pair = Pair(student, None, None, LoraSettings(), TrainSettings())
    step = Step(pair, Objective(LOSS), Accelerator(cpu=True), how, cache)
    prepared = step.prepare(batch)
    assert len(prepared.inputs) == len(batch.queries)
    assert bool(prepared.chunks) == (how.chunk_tokens is not None)
    found = step.backward(prepared, progress=0.3)
    taken = {n: p.grad.clone() for n, p in pair.model.named_parameters() if p.grad is not None}
    pair.model.zero_grad()
    assert found.left_out == 0 and len(found.student.candidates) == len(batch.candidates)

    # Written out plainly: the student embeds the queries; all candidates are the teacher's.
    theirs = Embeddings.of(cache.vectors(batch.inputs), len(batch.queries))
    queries = torch.cat([student.embed(student.collate([entry])) for entry in batch.queries])
    ours = Embeddings(queries, theirs.candidates)
    loss, _ = Objective(LOSS)(ours, theirs, batch.labels, 0.3)
    loss.backward()
    torch.testing.assert_close(found.loss, loss.detach(), atol=1e-5, rtol=1e-5)
    plain = {n: p.grad for n, p in pair.model.named_parameters() if p.grad is not None}
    assert taken.keys() == plain.keys()
    scale = max(float(value.abs().max()) for value in plain.values())
    for name, value in plain.items():
        torch.testing.assert_close(taken[name], value, atol=2e-4 * scale, rtol=1e-3)


def test_a_student_is_trained_for_the_teachers_index(settings: DistillSettings) -> None:
    asked = replace(
        settings,
        loss=LossSettings(frozen_candidates=True),
        train=TrainSettings(steps=3, validation_limit=0, cache_teacher=True),
    )
    assert distill(asked).finished


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train.cache_teacher": False}, "train.cache_teacher=true"),
        ({"train.validation_limit": 5}, "train.validation_limit=0"),
        ({"loss.hints": 1.0}, "loss.hints"),
        ({"batch.bad_images": "skip"}, "batch.bad_images=error"),
        ({"teacher": "none"}, "the teacher is 'none'"),
    ],
)
def test_what_asks_for_candidates_of_its_own_is_refused(
    settings: DistillSettings, change: dict[str, object], said: str
) -> None:
    parts = {
        "loss": LossSettings(frozen_candidates=True),
        "train": TrainSettings(steps=3, validation_limit=0, cache_teacher=True),
        "batch": BatchSettings(size=8),
        "teacher": settings.teacher,
    }
    for name, value in change.items():
        part, _, field = name.partition(".")
        parts[part] = replace(parts[part], **{field: value}) if field else value  # type: ignore
    with pytest.raises(ConfigError) as caught:
        check_training(replace(settings, **parts))  # type: ignore[arg-type]
    assert said in str(caught.value)
