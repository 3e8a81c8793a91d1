"""What a training holds in memory, part by part, in bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from puma_cli.config.lora_settings import NF4
from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.records import MODALITIES
from puma_cli.distillation.forecast.activations import (
    FULL,
    Trained,
    computed_again,
    kept_bytes,
)
from puma_cli.distillation.forecast.network import Shape, count
from puma_cli.distillation.forecast.survey import Survey
from puma_cli.distillation.frozen_vision import LIMIT
from puma_cli.distillation.hints import NO_HINTS, hint_depths
from puma_cli.distillation.running import base_dtype, teacher_dtype

# Bytes of a weight; in 4 bits with its share of two levels of scales.
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PACKED = 4.127 / 8


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that each process holds while it trains.

    Args:
        student: the student's weights, its adapters and its head included.
        teacher: weights that the teacher alone needs: its further layers where one copy serves
            both, or a model of its own less what it shares with the student.
        gradients: of what trains.
        moments: the optimizer's.
        activations: what the largest chunk, or else batch, keeps for its way back.
        embeddings: the student's embeddings of a whole batch, and their gradients.
        teacher_rows: the teacher's embeddings of a whole batch.
        images: features of images that a frozen vision tower does not see twice.
    """

    student: int
    teacher: int
    gradients: int
    moments: int
    activations: int
    embeddings: int
    teacher_rows: int
    images: int

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True)
class _Weight:
    shape: Shape
    trains: bool
    sharded: bool = False
    bytes: float = FULL

    def numbers(self, processes: int) -> int:
        """Return how many of its numbers a process holds, that with the most."""
        if not self.sharded or not self.shape:
            return math.prod(self.shape)
        first, *rest = self.shape
        return -(-first // processes) * math.prod(rest)


def _held(weights: Iterable[_Weight], processes: int) -> int:
    return math.ceil(sum(one.bytes * one.numbers(processes) for one in weights))


def plan_memory(settings: DistillSettings, found: Survey) -> MemoryPlan:
    """Return what a training with these settings holds.

    The settings may be others than those of the survey, as long as batches have the same inputs.
    """
    student = found.student
    parts = found.processes if settings.train.strategy == "fsdp2" else 1
    weights = list(_student(settings, found))
    moving = [one for one in (*weights, *_objective(settings, found)) if one.trains]
    gradients = FULL * sum(one.numbers(parts) for one in moving)
    held = _held(weights, parts)
    if parts > 1:
        # One unit at a time comes together to compute.
        layers = (student.layer(index) for index in range(student.depth))
        held += FULL * max(map(count, (student.embeddings, *layers)))
    inner = len(hint_pairs(settings, found)[0]) * student.width
    taught = found.teacher_dimension + inner
    return MemoryPlan(
        student=held,
        teacher=_held(_teacher(settings, found), parts),
        gradients=gradients,
        # AdamW counts the steps of every tensor, in float32.
        moments=2 * gradients + FULL * len(moving),
        activations=activations(settings, found),
        embeddings=2 * FULL * found.rows * (student.dimension + inner),
        teacher_rows=FULL * found.rows * taught,
        images=_remembered(settings, found),
    )


def opened_bytes(settings: DistillSettings, found: Survey) -> int:
    """Return the bytes of both models whole, as they are opened before the first step."""
    size = _held(_opened(settings, found), 1)
    if found.teacher is not None:
        size += int(BYTES[teacher_dtype(settings)] * count(found.teacher.everything()))
    return size


def cached_row(settings: DistillSettings, found: Survey) -> int:
    """Return the numbers that the teacher's cache keeps of an input."""
    if found.teacher is None:
        return 0
    return found.teacher_dimension + len(hint_pairs(settings, found)[0]) * found.teacher.width


def hint_pairs(settings: DistillSettings, found: Survey) -> tuple[list[int], list[int]]:
    """Return the inner depths of the student and of the teacher that hints compare."""
    if not settings.loss.hints or found.teacher is None:
        return NO_HINTS
    return hint_depths(found.student.depth, found.teacher.depth, settings.loss.hint_depths)


def shares_weights(settings: DistillSettings, found: Survey) -> bool:
    """Tell whether one copy of the weights serves student and teacher."""
    return found.kept is not None and settings.lora.rank > 0 and not settings.train.cache_teacher


def activations(settings: DistillSettings, found: Survey) -> int:
    """Return what the largest chunk keeps for its way back, or else the largest batch."""
    train, rank = settings.train, settings.lora.rank
    how = Trained(
        rank=rank,
        dropout=settings.lora.dropout > 0,
        vision=not (rank or train.freeze_vision),
        embeddings=(train.train_embeddings and not rank) or train.train_embed_token,
        # Over weights in bfloat16 the states are in it too; what autocast keeps is an upper bound.
        mixed=found.mixed or base_dtype(settings) == "bfloat16",
        cuda=found.device == "cuda",
        checkpointed=train.checkpoint_activations,
    )
    return max(
        sum(kept_bytes(found.student, how, one) for one in passes)
        + max(computed_again(found.student, how, one) for one in passes)
        for passes in found.divided(settings.batch)
    )


def largest_pass(settings: DistillSettings, found: Survey) -> int:
    """Return the most tokens, with padding, whose graphs are held at once."""
    return max(sum(one.tokens for one in passes) for passes in found.divided(settings.batch))


def _student(settings: DistillSettings, found: Survey) -> Iterator[_Weight]:
    """Yield the student's weights as they train, with what is added to them."""
    student, rank = found.student, settings.lora.rank
    yield from _opened(settings, found)
    if settings.train.train_embed_token:
        yield _Weight((student.width,), trains=True)
    targets = student.linears(settings.lora.targets) if rank else []
    for outputs, inputs in targets * student.depth:
        yield _Weight((rank, inputs), trains=True, sharded=True)
        yield _Weight((outputs, rank), trains=True, sharded=True)


def _opened(settings: DistillSettings, found: Survey) -> Iterator[_Weight]:
    """Yield the student's own weights."""
    student, train, rank = found.student, settings.train, settings.lora.rank
    full, each = not rank, BYTES[base_dtype(settings)]
    packed = settings.lora.quantize == NF4
    for shape in student.all_layers():
        # Norms and biases are vectors, and stay as they are.
        small = PACKED if packed and len(shape) == 2 else each
        yield _Weight(shape, full, sharded=True, bytes=small)
    for shape in student.rest:
        yield _Weight(shape, full, sharded=True, bytes=each)
    for shape in student.embeddings:
        yield _Weight(shape, full and train.train_embeddings, sharded=True, bytes=each)
    for shape in student.vision:
        yield _Weight(shape, full and not train.freeze_vision, bytes=each)
    for shape in student.head:
        yield _Weight(shape, trains=not train.fade_head)


def _objective(settings: DistillSettings, found: Survey) -> Iterator[_Weight]:
    """Yield what trains beside the student."""
    loss = settings.loss
    if loss.learn_temperature:
        yield _Weight((len(MODALITIES),) * 2 if loss.temperatures else (), trains=True)
    if loss.projection == "learned" and found.teacher_dimension:
        outputs = found.teacher_dimension
        yield _Weight((outputs, found.student.dimension), trains=True)
        yield _Weight((outputs,), trains=True)


def _teacher(settings: DistillSettings, found: Survey) -> Iterator[_Weight]:
    """Yield the weights that the teacher has to itself."""
    teacher, train, frozen = found.teacher, settings.train, settings.lora.rank > 0
    if teacher is None or train.cache_teacher:
        return
    each = BYTES[teacher_dtype(settings)]
    shared: set[int] = set()
    if shares_weights(settings, found):
        shared = set(found.kept or ())
    else:
        shares = train.freeze_vision or frozen
        if not (shares and found.same_vision):
            yield from (_Weight(shape, False, bytes=each) for shape in teacher.vision)
        if not (shares and found.same_embeddings and (frozen or not train.train_embeddings)):
            yield from (_Weight(shape, False, bytes=each) for shape in teacher.embeddings)
        yield from (_Weight(shape, False, bytes=each) for shape in teacher.rest)
    for index in range(teacher.depth):
        if index not in shared:
            yield from (
                _Weight(shape, False, sharded=True, bytes=each) for shape in teacher.layer(index)
            )
    yield from (_Weight(shape, False, bytes=each) for shape in teacher.head)


def _remembered(settings: DistillSettings, found: Survey) -> int:
    frozen = settings.train.freeze_vision or settings.lora.rank > 0
    return min(LIMIT, found.images * found.image_bytes) if frozen else 0
