"""Student and teacher: one copy computes what two would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import TrainSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation.objective import Embeddings
from puma_cli.distillation.pair import Pair
from puma_cli.models.embedder import Embedder
from puma_cli.models.head import Head
from puma_cli.models.opening import load
from puma_cli.models.processing import Batch
from puma_cli.models.splitting import in_order, split_by_length

LORA = LoraSettings(rank=4, alpha=8, dropout=0.0)


def cut(folder: Path, kept: list[int]) -> Embedder:
    """A copy of the model that has only the layers `kept`."""
    embedder = load(folder, "cpu")
    layers = embedder.decoder.layers
    embedder.decoder.layers = torch.nn.ModuleList([layers[index] for index in kept])
    for config in (embedder.model.config.text_config,):
        config.layer_types = [config.layer_types[index] for index in kept]
        config.num_hidden_layers = len(kept)
    return embedder


@pytest.fixture
def batches(tiny_scenes: Path, tiny_checkpoint: Path) -> tuple[Batch, Batch]:
    data, embedder = MbeirFolder(tiny_scenes), load(tiny_checkpoint, "cpu")
    queries = [q for t in data.tasks("test") for q in data.queries("test", t)[:2]]
    pool = data.union_pool("test")[:12]
    return (
        embedder.collate([query.to_input("Find it.") for query in queries]),
        embedder.collate([candidate.to_input() for candidate in pool]),
    )


def embed(embedder: Embedder, batch: Batch) -> Tensor:
    """What a model alone makes of the parts that a pair divides its batches into."""
    parts = split_by_length(batch)
    return in_order([part.rows for part in parts], [embedder.embed(part.batch) for part in parts])


def embed_both(
    pair: Pair, queries: Batch, candidates: Batch, with_teacher: bool
) -> tuple[Embeddings, Embeddings | None]:
    """What a training step asks of a pair, side by side."""
    sides = []
    for batch in (queries, candidates):
        parts = split_by_length(batch)
        found = [pair.embed(part.batch, pair.see(part.batch), with_teacher) for part in parts]
        rows = [part.rows for part in parts]
        ours = in_order(rows, [ours for ours, _ in found])
        theirs = [theirs for _, theirs in found if theirs is not None]
        sides.append((ours, in_order(rows, theirs) if theirs else None))
    (asked, asked_teacher), (offered, offered_teacher) = sides
    taught = None
    if asked_teacher is not None and offered_teacher is not None:
        taught = Embeddings(asked_teacher, offered_teacher)
    return Embeddings(asked, offered), taught


def spread_adapters(pair: Pair) -> None:
    """Give the adapters, which start at zero, something to say."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in pair.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.3, generator=generator)


@pytest.mark.parametrize("kept", [[0, 1], [0, 3]])
def test_one_copy_computes_exactly_what_two_do(
    tiny_checkpoint: Path, batches: tuple[Batch, Batch], kept: list[int]
) -> None:
    teacher = load(tiny_checkpoint, "cpu")
    pair = Pair(cut(tiny_checkpoint, kept), teacher, kept, LORA, TrainSettings())
    assert pair.shared and pair.embedder.model is teacher.model
    alone, student = load(tiny_checkpoint, "cpu"), cut(tiny_checkpoint, kept)
    with torch.no_grad():
        ours, theirs = embed_both(pair, *batches, with_teacher=True)
        assert theirs is not None
        # Adapters start at zero, so the student is still the plain cut.
        assert torch.equal(ours.queries, embed(student, batches[0]))
        assert torch.equal(theirs.queries, embed(alone, batches[0]))
        spread_adapters(pair)
        ours, theirs = embed_both(pair, *batches, with_teacher=True)
        assert theirs is not None
        assert not torch.allclose(ours.candidates, student.embed(batches[1]))
        assert torch.equal(theirs.candidates, embed(alone, batches[1]))


def test_gradients_of_the_shared_copy_stay_in_the_kept_layers(
    tiny_checkpoint: Path, batches: tuple[Batch, Batch]
) -> None:
    kept = [0, 1]
    teacher = load(tiny_checkpoint, "cpu")
    pair = Pair(cut(tiny_checkpoint, kept), teacher, kept, LORA, TrainSettings())
    ours, theirs = embed_both(pair, *batches, with_teacher=True)
    assert theirs is not None and not theirs.queries.requires_grad
    (ours.queries.sum() + ours.candidates.sum()).backward()
    trained = {name for name, value in pair.model.named_parameters() if value.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert {name.split("layers.")[1][0] for name in trained} == {"0", "1"}
    assert all(
        value.grad is not None
        for name, value in pair.model.named_parameters()
        if name in trained and "lora_B" in name
    )


def test_dropout_never_reaches_the_teacher(
    tiny_checkpoint: Path, batches: tuple[Batch, Batch]
) -> None:
    lora = LoraSettings(rank=4, alpha=8, dropout=0.5)
    pair = Pair(
        cut(tiny_checkpoint, [0, 1]), load(tiny_checkpoint, "cpu"), [0, 1], lora, TrainSettings()
    )
    spread_adapters(pair)
    pair.model.train()
    runs = [embed_both(pair, *batches, with_teacher=True) for _ in range(2)]
    (first, taught), (second, taught_again) = runs
    assert not torch.equal(first.queries, second.queries)
    assert taught is not None and taught_again is not None
    assert torch.equal(taught.queries, taught_again.queries)
    assert pair.model.training


def test_merged_weights_compute_what_the_adapters_do(
    tiny_checkpoint: Path, batches: tuple[Batch, Batch]
) -> None:
    kept = [0, 1, 3]
    pair = Pair(
        cut(tiny_checkpoint, kept), load(tiny_checkpoint, "cpu"), kept, LORA, TrainSettings()
    )
    spread_adapters(pair)
    before = {name: value.clone() for name, value in pair.model.state_dict().items()}
    exported = pair.export()
    assert exported.depth == 3 and exported.model.config.text_config.num_hidden_layers == 3
    with torch.no_grad():
        ours, _ = embed_both(pair, *batches, with_teacher=False)
        torch.testing.assert_close(exported.embed(batches[0]), ours.queries, rtol=1e-4, atol=1e-5)
    after = pair.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_full_training_leaves_the_teacher_alone_but_shares_what_is_frozen(
    tiny_checkpoint: Path, batches: tuple[Batch, Batch]
) -> None:
    student, teacher = cut(tiny_checkpoint, [0, 1]), load(tiny_checkpoint, "cpu")
    pair = Pair(student, teacher, [0, 1], LoraSettings(rank=0), TrainSettings())
    assert not pair.shared
    assert teacher.model.visual is student.model.visual
    assert teacher.decoder.embed_tokens is student.decoder.embed_tokens
    with torch.no_grad():
        expected = embed(teacher, batches[0]).clone()
        for parameter in pair.model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5)
        ours, theirs = embed_both(pair, *batches, with_teacher=True)
    assert theirs is not None
    assert torch.equal(theirs.queries, expected)
    assert not torch.allclose(ours.queries, cut(tiny_checkpoint, [0, 1]).embed(batches[0]))


def test_a_trained_vision_tower_is_not_shared(tiny_checkpoint: Path) -> None:
    student, teacher = cut(tiny_checkpoint, [0, 1]), load(tiny_checkpoint, "cpu")
    settings = TrainSettings(freeze_vision=False, train_embeddings=True)
    Pair(student, teacher, [0, 1], LoraSettings(rank=0), settings)
    assert teacher.model.visual is not student.model.visual
    assert teacher.decoder.embed_tokens is not student.decoder.embed_tokens


def test_a_student_with_other_weights_gets_a_copy_of_its_own(tiny_checkpoint: Path) -> None:
    student = cut(tiny_checkpoint, [0, 1])
    with torch.no_grad():
        student.decoder.norm.weight.add_(0.1)
    pair = Pair(student, load(tiny_checkpoint, "cpu"), [0, 1], LORA, TrainSettings())
    assert not pair.shared and pair.embedder is student


def random_head(seed: int) -> Head:
    generator = torch.Generator().manual_seed(seed)
    return Head(torch.randn(32, 32, generator=generator), torch.randn(32, generator=generator))


@pytest.mark.parametrize("rank", [0, 4])
def test_the_head_is_the_students_alone_and_trains_with_it(
    tiny_checkpoint: Path, batches: tuple[Batch, Batch], rank: int
) -> None:
    teacher, student = load(tiny_checkpoint, "cpu"), cut(tiny_checkpoint, [0, 1])
    plain, alone = cut(tiny_checkpoint, [0, 1]), load(tiny_checkpoint, "cpu")
    head = student.head = random_head(1)
    lora = LORA if rank else LoraSettings(rank=0)
    pair = Pair(student, teacher, [0, 1], lora, TrainSettings())
    assert pair.shared == bool(rank)
    ours, theirs = embed_both(pair, *batches, with_teacher=True)
    assert theirs is not None
    with torch.no_grad():
        expected = plain.embed(batches[0]) @ head.weight + head.bias
        torch.testing.assert_close(ours.queries, expected)
        assert torch.equal(theirs.queries, embed(alone, batches[0]))
        # Also where the student is looked at as an embedder: in validation.
        with pair.student() as found:
            assert found.dimension == 32
            torch.testing.assert_close(found.embed(batches[0]), expected)
    trained = {name for name, value in pair.model.named_parameters() if value.requires_grad}
    assert {"head.weight", "head.bias"} < trained
    (ours.queries.sum() + ours.candidates.sum()).backward()
    assert head.weight.grad is not None and head.bias.grad is not None
    assert head.weight.grad.abs().sum() > 0
    exported = pair.export()
    assert exported.head is not None and exported.head is not head
    with torch.no_grad():
        torch.testing.assert_close(exported.embed(batches[0]), expected)
        head.weight.zero_()
        torch.testing.assert_close(exported.embed(batches[0]), expected)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_teachers_own_head_teaches_and_stays(
    tiny_checkpoint: Path, batches: tuple[Batch, Batch], rank: int
) -> None:
    teacher, alone = load(tiny_checkpoint, "cpu"), load(tiny_checkpoint, "cpu")
    teacher.head = alone.head = random_head(2)
    lora = LORA if rank else LoraSettings(rank=0)
    pair = Pair(cut(tiny_checkpoint, [0, 1]), teacher, [0, 1], lora, TrainSettings())
    ours, theirs = embed_both(pair, *batches, with_teacher=True)
    assert theirs is not None
    with torch.no_grad():
        assert torch.equal(theirs.candidates, embed(alone, batches[1]))
        plain = cut(tiny_checkpoint, [0, 1]).embed(batches[1])
        torch.testing.assert_close(ours.candidates, plain)
    assert not any("head" in name for name, _ in pair.model.named_parameters())
    assert not teacher.head.weight.requires_grad
    assert pair.export().head is None
