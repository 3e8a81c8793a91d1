"""What a training is said to hold is what its objects hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import (
    BatchSettings,
    DistillSettings,
    LossSettings,
    TrainSettings,
)
from puma_cli.data.training_data import open_training_data
from puma_cli.distillation.forecast.activations import Trained, computed_again, kept_bytes
from puma_cli.distillation.forecast.memory import (
    activations,
    largest_pass,
    opened_bytes,
    plan_memory,
    shares_weights,
)
from puma_cli.distillation.forecast.survey import Survey, survey
from puma_cli.distillation.loop import Training
from puma_cli.distillation.meter import Meter
from puma_cli.distillation.objective import Objective
from puma_cli.distillation.output import TrainingFolder
from puma_cli.distillation.preparation import prepare
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.interruption import StopRequest
from puma_cli.models.opening import load
from puma_cli.models.splitting import Part
from puma_cli.processes import ALONE
from puma_cli.progress import SILENT
from tests.headed import add_head

# How far the estimate of activations may be from what autograd keeps.
FACTOR = 1.03

LORA = LoraSettings(rank=4, alpha=8, dropout=0.1)


def ready(settings: DistillSettings) -> tuple[Training, Survey]:
    data, output = open_training_data(settings), TrainingFolder(settings.output_dir)
    output.open(settings)
    training = prepare(settings, data, Objective(settings.loss), output, [], SILENT, ALONE)
    return training, survey(settings, data, output, ALONE)


def held(parameters: Iterable[Tensor]) -> int:
    return sum(each.nbytes for each in {id(each): each for each in parameters}.values())


def saved_by(work: Callable[[], object], model: nn.Module) -> int:
    """The bytes of the storages that autograd keeps for a way back, weights left out."""
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    found: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        graph = work()
    del graph
    return sum(size for size, _ in found.values())


def full(settings: DistillSettings) -> DistillSettings:
    return replace(settings, train=replace(settings.train, freeze_vision=False))


WAYS: dict[str, Callable[[DistillSettings], DistillSettings]] = {
    "full": lambda settings: settings,
    "vision": full,
    "everything": lambda settings: replace(
        settings, train=TrainSettings(steps=3, freeze_vision=False, train_embeddings=True)
    ),
    "adapters": lambda settings: replace(settings, lora=LORA),
    "some linears": lambda settings: replace(
        settings, lora=replace(LORA, targets=("q_proj", "mlp.down_proj"))
    ),
    "halved": lambda settings: replace(
        settings,
        lora=replace(LORA, base_dtype="bfloat16"),
        train=replace(settings.train, train_embed_token=True),
    ),
    "a row": lambda settings: replace(
        settings, lora=LORA, train=replace(settings.train, train_embed_token=True)
    ),
    "undropped": lambda settings: replace(settings, lora=replace(LORA, dropout=0.0)),
    "alone": lambda settings: replace(settings, teacher="none", loss=LossSettings()),
    "cached": lambda settings: replace(
        settings, lora=LORA, train=replace(settings.train, cache_teacher=True)
    ),
    "learned": lambda settings: replace(
        settings,
        loss=replace(
            settings.loss,
            learn_temperature=True,
            temperatures=(0.05,) * 9,
            projection="learned",
            hints=0.1,
        ),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_weights_gradients_and_moments_are_those_of_the_objects(
    settings: DistillSettings, way: str
) -> None:
    settings = WAYS[way](settings)
    training, found = ready(settings)
    plan, pair = plan_memory(settings, found), training.pair
    if training.cache is not None:
        assert isinstance(training.cache, TeacherCache)
        training.cache.fill(lambda: load(settings.teacher, "cpu"), SILENT, StopRequest())
    assert (
        pair.shared
        is shares_weights(settings, found)
        is (way in ("adapters", "undropped", "some linears", "halved", "a row"))
    )

    # A row of its own lies beside the network.
    everything = [*pair.embedder.model.parameters(), *pair.model.parameters()]
    if pair.teacher is not None and not pair.shared:
        everything += list(pair.teacher.model.parameters())
    assert plan.student + plan.teacher == held(everything)
    with pair.student() as student:
        row = 4 * student.width if settings.train.train_embed_token else 0
        assert plan.student == held(student.model.parameters()) + row

    meter = Meter(torch.device("cpu"), 0, training.steps)
    gradients: list[int] = []
    zero = training.optimizer.zero_grad

    def counted(set_to_none: bool = True) -> None:
        found = (each.grad for each in training.trained.parameters() if each.grad is not None)
        gradients.append(sum(each.nbytes for each in found))
        zero(set_to_none=set_to_none)

    training.optimizer.zero_grad = counted
    assert len(list(training.take_steps(2, meter))) == 2
    # A batch of texts alone leaves a tower untouched.
    assert max(gradients) == plan.gradients
    moments = (v for state in training.optimizer.state.values() for v in state.values())
    assert plan.moments == sum(each.nbytes for each in moments)


def test_a_head_trains_beside_a_frozen_network(
    settings: DistillSettings, pruned: Path, tmp_path: Path
) -> None:
    headed = add_head(pruned, tmp_path / "headed", 32)
    settings = replace(settings, student=str(headed), lora=LORA)
    training, found = ready(settings)
    plan = plan_memory(settings, found)
    trained = list(training.pair.trained())
    assert training.pair.embedder.head is not None
    assert plan.gradients == held(trained)
    assert plan.moments == 2 * held(trained) + 4 * len(trained)


@pytest.mark.parametrize("way", ["full", "vision", "everything", "adapters", "undropped"])
def test_activations_are_what_autograd_keeps(settings: DistillSettings, way: str) -> None:
    settings = WAYS[way](settings)
    training, found = ready(settings)
    for number, mixed in ((0, False), (1, False), (0, True)):
        kept = saved_by(passes_of(training, number, mixed), training.pair.model)
        said = activations(settings, only(found, number, mixed))
        assert kept / FACTOR <= said <= kept * FACTOR, (number, mixed, kept, said)


@pytest.mark.parametrize("way", ["full", "adapters"])
def test_with_checkpoints_a_layer_is_held_beside_what_every_layer_reads(
    settings: DistillSettings, way: str
) -> None:
    settings = WAYS[way](settings)
    settings = replace(settings, train=replace(settings.train, checkpoint_activations=True))
    training, found = ready(settings)
    kept = saved_by(passes_of(training, 0, mixed=False), training.pair.model)
    one = only(found, 0)
    how = Trained(rank=settings.lora.rank, dropout=True, checkpointed=True)
    (passes,) = one.divided(settings.batch)
    again, largest = max((computed_again(found.student, how, p), p.tokens, p) for p in passes)[::2]
    said = activations(settings, one)
    assert kept / FACTOR <= said - again <= kept * FACTOR
    # Of two layers alike, one is held at a time.
    whole = kept_bytes(found.student, replace(how, checkpointed=False), largest)
    assert whole / 2.2 < again < whole / 1.8


def test_chunks_hold_the_largest_of_them(settings: DistillSettings) -> None:
    batch = replace(settings.batch, chunk_tokens=120)
    settings = replace(settings, batch=batch)
    training, found = ready(settings)
    prepared = training.gradients.prepare(training.examples.batch(training.order.batch(0)[1], 0))
    assert len(prepared.chunks) > 3
    parts = list(training.gradients._read(prepared, prepared.chunks))
    training.pair.model.train()
    kept = [saved_by(lambda p=p: embedded(training, [p]), training.pair.model) for p in parts]  # type: ignore[misc]
    assert max(kept) / FACTOR <= activations(settings, only(found, 0)) <= max(kept) * FACTOR
    tokens = [part.batch.input_ids.numel() for part in parts]
    assert largest_pass(settings, only(found, 0)) == max(tokens) <= 120
    whole = replace(settings, batch=BatchSettings(size=8))
    assert largest_pass(whole, only(found, 0)) > 2 * max(tokens)


def test_a_part_of_the_decoder_lies_on_each_process(settings: DistillSettings) -> None:
    """Three processes, whose parts of 32 rows are 11, 11 and 10; the tower is whole on each."""
    settings = replace(WAYS["adapters"](settings), train=TrainSettings(steps=3, strategy="fsdp2"))
    training, found = ready(settings)
    plan = plan_memory(settings, replace(found, processes=3))
    pair, sharded, whole, moving = training.pair, 0, 0, 0
    with pair.student() as student:
        for name, each in student.model.named_parameters():
            part = -(-each.shape[0] // 3) * each[0].numel()
            whole += each.numel() if "visual" in name else 0
            sharded += 0 if "visual" in name else part
            moving += part if each.requires_grad else 0
        layers = [
            sum(v.numel() for k, v in layer.named_parameters() if "lora_" not in k)
            for layer in student.decoder.layers
        ]
        together = max(*layers, student.decoder.embed_tokens.weight.numel())
    assert plan.student == 4 * (sharded + whole + together)
    assert plan.gradients == 4 * moving
    alone = plan_memory(
        replace(settings, train=TrainSettings(steps=3)), replace(found, processes=3)
    )
    assert plan.teacher < alone.teacher / 2.9
    assert alone.gradients == held(pair.trained())


def test_both_models_are_whole_while_they_are_opened(settings: DistillSettings) -> None:
    _, found = ready(settings)
    models = [load(name, "cpu").model for name in (settings.student, settings.teacher)]
    assert opened_bytes(settings, found) == sum(held(model.parameters()) for model in models)


def only(found: Survey, number: int, mixed: bool = False) -> Survey:
    """The survey of one batch."""
    return replace(found, batches=(found.batches[number],), mixed=mixed)


def passes_of(training: Training, number: int, mixed: bool) -> Callable[[], object]:
    batch = training.examples.batch(training.order.batch(number)[1], 0)
    parts = training.gradients.prepare(batch).parts
    training.pair.model.train()
    return lambda: embedded(training, parts, mixed)


def embedded(training: Training, parts: Iterable[Part], mixed: bool = False) -> list[Tensor]:
    """The student's embeddings of parts, with their graphs, as a step computes them."""
    found, pair = [], training.pair
    for part in parts:
        with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
            found.append(pair.embed(part.batch, pair.see(part.batch), False)[0])
    return found
