"""A batch in chunks has the gradients of the batch undivided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

import puma_cli.distillation.step
from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import BatchSettings, LossSettings, TrainSettings
from puma_cli.data.examples import ContrastiveBatch, Examples
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation.objective import Embeddings, Objective
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.random_state import random_state, replayed
from puma_cli.distillation.step import Outcome, Step
from puma_cli.errors import DataError
from puma_cli.losses import Labels
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.models.processing import Batch

LOSS = LossSettings("mac", mse=0.1, cosine=0.5, similarity=0.2, gram=0.3, symmetric=True)
WHOLE = BatchSettings()
CHUNKS = BatchSettings(chunk_tokens=150, chunk_pixels=10_000)


@pytest.fixture(scope="module")
def batch(tiny_scenes: Path) -> ContrastiveBatch:
    data = MbeirFolder(tiny_scenes)
    queries = data.train_queries("*")
    pool = data.union_pool("train")
    examples = Examples(queries, pool, data.instructions, "first", 0, negatives=1)
    return examples.batch(range(0, len(queries), max(1, len(queries) // 14)), epoch=0)


def pair_of(folder: Path, lora: LoraSettings, train: TrainSettings, double: bool) -> Pair:
    """A student of two layers and its teacher, in evaluation mode unless dropout is wanted."""
    teacher, student = load(folder, "cpu"), load(folder, "cpu")
    student.decoder.layers = torch.nn.ModuleList([student.decoder.layers[i] for i in (0, 1)])
    student.model.config.text_config.layer_types = ["full_attention"] * 2
    student.model.config.text_config.num_hidden_layers = 2
    if double:
        for embedder in (teacher, student):
            embedder.model.double()
    pair = Pair(student, teacher, [0, 1], lora, train)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in pair.model.named_parameters():
            if "lora_B" in name:
                value.normal_(0.0, 0.2, generator=generator)
    pair.model.train()
    return pair


def gradients(pair: Pair) -> dict[str, Tensor]:
    found = {
        name: value.grad.clone()
        for name, value in pair.model.named_parameters()
        if value.grad is not None
    }
    pair.model.zero_grad()
    return found


def run(pair: Pair, batch: ContrastiveBatch, how: BatchSettings) -> tuple[Outcome, int]:
    step = Step(pair, Objective(LOSS), Accelerator(cpu=True), how)
    prepared = step.prepare(batch)
    return step.backward(prepared, progress=0.3), len(prepared.chunks)


def in_double(embedder: Embedder) -> None:
    """Give the model pixels of its own precision."""
    plain = embedder.collate

    def collate(inputs: Sequence[Input]) -> Batch:
        batch = plain(inputs)
        pixels = batch.pixel_values
        return batch if pixels is None else replace(batch, pixel_values=pixels.double())

    embedder.collate = collate  # type: ignore[method-assign]


def apart(found: Tensor, expected: Tensor) -> float:
    """How far two tensors are from each other, for the length of the one."""
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("how", ["lora", "full", "vision"])
def test_chunks_give_the_undivided_gradient(
    tiny_checkpoint: Path, batch: ContrastiveBatch, how: str, double: bool
) -> None:
    lora = LoraSettings(rank=4, alpha=8, dropout=0.0) if how == "lora" else LoraSettings()
    pair = pair_of(tiny_checkpoint, lora, TrainSettings(freeze_vision=how != "vision"), double)
    if double:
        in_double(pair.embedder)
    whole, undivided = run(pair, batch, WHOLE)
    expected = gradients(pair)
    chunked, count = run(pair, batch, CHUNKS)
    found = gradients(pair)
    assert undivided == 0 and count > 3
    assert expected.keys() == found.keys() and any("layers.1" in name for name in found)
    assert any("visual" in name for name in found) == (how == "vision")
    bound = 1e-10 if double else 1e-5
    assert apart(chunked.loss, whole.loss) <= bound
    assert apart(chunked.student.queries, whole.student.queries) <= bound
    for name in found:
        assert apart(found[name], expected[name]) <= bound, name


def test_with_dropout_the_second_pass_draws_what_the_first_drew(
    tiny_checkpoint: Path, batch: ContrastiveBatch
) -> None:
    lora = LoraSettings(rank=4, alpha=8, dropout=0.3)
    pair = pair_of(tiny_checkpoint, lora, TrainSettings(), double=True)
    in_double(pair.embedder)
    torch.manual_seed(7)
    chunked, count = run(pair, batch, CHUNKS)
    after, found = torch.get_rng_state(), gradients(pair)
    assert count > 3
    # The same chunks under the same numbers, with their graphs kept.
    step = Step(pair, Objective(LOSS), Accelerator(cpu=True), CHUNKS)
    prepared = step.prepare(batch)
    torch.manual_seed(7)
    student, teacher = step._embed(step._read(prepared, prepared.chunks))
    assert teacher is not None
    assert torch.equal(torch.get_rng_state(), after)
    queries = len(batch.queries)
    sides = [Embeddings(each[:queries], each[queries:]) for each in (student, teacher)]
    loss, _ = Objective(LOSS)(*sides, batch.labels, progress=0.3)
    loss.backward()
    expected = gradients(pair)
    torch.testing.assert_close(chunked.loss, loss.detach(), rtol=1e-12, atol=0)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("limit", [0, 3_000, 1 << 30])
def test_a_frozen_tower_sees_an_image_once_while_there_is_room(
    tiny_checkpoint: Path, batch: ContrastiveBatch, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(puma_cli.distillation.step, "VISION_BYTES", limit)
    pair = pair_of(tiny_checkpoint, LoraSettings(), TrainSettings(), double=False)
    seen, read = [], []
    see, collate = pair.see, pair.embedder.collate

    def counted(batch: Batch) -> Any:
        if batch.pixel_values is not None:
            seen.append(len(batch.images))
        return see(batch)

    def noted(inputs: Sequence[Input]) -> Batch:
        read.append(len(inputs))
        return collate(inputs)

    monkeypatch.setattr(pair, "see", counted)
    monkeypatch.setattr(pair.embedder, "collate", noted)
    _, count = run(pair, batch, CHUNKS)
    images = sum(entry.image is not None for entry in batch.inputs)
    texts = len(batch.inputs) - images
    assert count > 3
    if limit == 0:
        assert (sum(seen), sum(read)) == (2 * images, 2 * images + texts)
    elif limit == 1 << 30:
        assert (sum(seen), sum(read)) == (images, images + texts)
    else:
        assert images < sum(seen) < 2 * images
        assert sum(read) == sum(seen) + texts


def test_replayed_numbers_leave_no_trace() -> None:
    device = torch.device("cpu")
    torch.manual_seed(3)
    state = random_state(device)
    first, then = torch.rand(4), torch.rand(4)
    torch.set_rng_state(state[0])
    torch.rand(4)
    with replayed(state, device):
        assert torch.equal(torch.rand(4), first)
    assert torch.equal(torch.rand(4), then)


def test_sizes_are_those_of_the_tensors(tiny_checkpoint: Path, batch: ContrastiveBatch) -> None:
    embedder = load(tiny_checkpoint, "cpu")
    sizes = embedder.processor.sizes(batch.inputs)
    patch = embedder.image_processor.patch_size
    for entry, size in zip(batch.inputs, sizes, strict=True):
        alone = embedder.collate([entry])
        assert size.tokens == alone.input_ids.shape[1]
        patches = 0 if alone.pixel_values is None else len(alone.pixel_values)
        assert size.pixels == patches * patch**2


def test_what_shows_a_broken_image_is_left_out_and_nothing_else(
    tiny_checkpoint: Path, batch: ContrastiveBatch, tmp_path: Path
) -> None:
    count, target = len(batch.queries), batch.labels.target.tolist()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    column = next(at for at in target if batch.candidates[at].image is not None)
    row = next(
        at
        for at, entry in enumerate(batch.queries)
        if entry.image is not None and target[at] != column
    )
    shown = list(batch.inputs)
    for place in (row, count + column):
        shown[place] = replace(shown[place], image=broken)
    damaged = replace(batch, queries=shown[:count], candidates=shown[count:])
    pair = pair_of(tiny_checkpoint, LoraSettings(), TrainSettings(), double=True)
    in_double(pair.embedder)
    with pytest.raises(DataError, match=r"broken\.png cannot be decoded"):
        run(pair, damaged, WHOLE)
    pair.embedder.processor.images.stands_in = True
    outcome, _ = run(pair, damaged, CHUNKS)
    found = gradients(pair)
    # By hand: the queries and candidates that stay, and where each query's positive is among them.
    queries = [at for at in range(count) if at != row and target[at] != column]
    columns = [at for at in range(len(batch.candidates)) if at != column]
    labels = Labels(
        torch.tensor([columns.index(target[at]) for at in queries]),
        batch.labels.excluded[queries][:, columns],
        batch.labels.query_modality[queries],
        batch.labels.candidate_modality[columns],
    )
    kept = [batch.queries[at] for at in queries] + [batch.candidates[at] for at in columns]
    tensors = pair.embedder.collate(kept)
    student, teacher = pair.embed(tensors, pair.see(tensors), with_teacher=True)
    assert teacher is not None
    sides = [Embeddings.of(rows, len(queries)) for rows in (student, teacher)]
    loss, _ = Objective(LOSS)(*sides, labels, progress=0.3)
    loss.backward()
    assert outcome.left_out == count - len(queries) + 1
    assert apart(outcome.loss, loss.detach()) <= 1e-10
    for name, expected in gradients(pair).items():
        assert apart(found[name], expected) <= 1e-9, name
    assert list(pair.embedder.processor.images.unreadable) == [broken]


def test_tokens_are_counted_alike_at_once_and_in_chunks(
    tiny_checkpoint: Path, batch: ContrastiveBatch
) -> None:
    pair = pair_of(tiny_checkpoint, LoraSettings(), TrainSettings(), double=False)
    steps = [Step(pair, Objective(LOSS), Accelerator(cpu=True), kind) for kind in (WHOLE, CHUNKS)]
    whole, chunked = (step.prepare(batch) for step in steps)
    assert chunked.chunks and not whole.chunks
    widths = [pair.embedder.collate([entry]).input_ids.shape[1] for entry in batch.inputs]
    assert whole.tokens == chunked.tokens == sum(widths)
