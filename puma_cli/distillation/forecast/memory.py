"""What a training holds in memory, part by part, in bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from puma_cli.config.settings import DistillSettings
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

    def numbers(self, processes: int) -> int:
        """Return how many of its numbers a process holds, that with the most."""
        if not self.sharded or not self.shape:
            return math.prod(self.shape)
        first, *rest = self.shape
        return -(-first // processes) * math.prod(rest)


def plan_memory(settings: DistillSettings, found: Survey) -> MemoryPlan:
    """Return what a training with these settings holds.

    The settings may be others than those of the survey, as long as batches have the same inputs.
    """
    student, teacher = found.student, found.teacher
    parts = found.processes if settings.train.strategy == "fsdp2" else 1
    weights = list(_student(settings, found))
    moving = [one for one in (*weights, *_objective(settings, found)) if one.trains]
    gradients = FULL * sum(one.numbers(parts) for one in moving)
    held = FULL * sum(one.numbers(parts) for one in weights)
    if parts > 1:
        # One unit at a time comes together to compute.
        layers = (student.layer(index) for index in range(student.depth))
        held += FULL * max(map(count, (student.embeddings, *layers)))
    inner = len(hint_pairs(settings, found)[0]) * student.width
    taught = 0 if teacher is None else teacher.dimension + inner
    return MemoryPlan(
        student=held,
        teacher=FULL * sum(one.numbers(parts) for one in _teacher(settings, found)),
        gradients=gradients,
        # AdamW counts the steps of every tensor, in float32.
        moments=2 * gradients + FULL * len(moving),
        activations=activations(settings, found),
        embeddings=2 * FULL * found.rows * (student.dimension + inner),
        teacher_rows=FULL * found.rows * taught,
        images=_remembered(settings, found),
    )


def opened_bytes(found: Survey) -> int:
    """Return the bytes of both models whole, as they are opened before the first step."""
    teacher = found.teacher.everything() if found.teacher else []
    return FULL * (count(found.student.everything()) + count(teacher))


def cached_row(settings: DistillSettings, found: Survey) -> int:
    """Return the numbers that the teacher's cache keeps of an input."""
    if found.teacher is None:
        return 0
    return found.teacher.dimension + len(hint_pairs(settings, found)[0]) * found.teacher.width


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
        embeddings=train.train_embeddings and not rank,
        mixed=found.mixed,
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
    """Yield the student's weights as they train."""
    student, train, rank = found.student, settings.train, settings.lora.rank
    full = not rank
    for shape in (*student.all_layers(), *student.rest):
        yield _Weight(shape, full, sharded=True)
    for shape in student.embeddings:
        yield _Weight(shape, full and train.train_embeddings, sharded=True)
    for shape in student.vision:
        yield _Weight(shape, full and not train.freeze_vision)
    for shape in student.head:
        yield _Weight(shape, trains=True)
    for outputs, inputs in student.linears() * student.depth if rank else ():
        yield _Weight((rank, inputs), trains=True, sharded=True)
        yield _Weight((outputs, rank), trains=True, sharded=True)


def _objective(settings: DistillSettings, found: Survey) -> Iterator[_Weight]:
    """Yield what trains beside the student."""
    loss = settings.loss
    if loss.learn_temperature:
        yield _Weight((len(MODALITIES),) * 2 if loss.temperatures else (), trains=True)
    if loss.projection == "learned" and found.teacher is not None:
        outputs = found.teacher.dimension
        yield _Weight((outputs, found.student.dimension), trains=True)
        yield _Weight((outputs,), trains=True)


def _teacher(settings: DistillSettings, found: Survey) -> Iterator[_Weight]:
    """Yield the weights that the teacher has to itself."""
    teacher, train, frozen = found.teacher, settings.train, settings.lora.rank > 0
    if teacher is None or train.cache_teacher:
        return
    shared: set[int] = set()
    if shares_weights(settings, found):
        shared = set(found.kept or ())
    else:
        shares = train.freeze_vision or frozen
        if not (shares and found.same_vision):
            yield from (_Weight(shape, False) for shape in teacher.vision)
        if not (shares and found.same_embeddings and (frozen or not train.train_embeddings)):
            yield from (_Weight(shape, False) for shape in teacher.embeddings)
        yield from (_Weight(shape, False) for shape in teacher.rest)
    for index in range(teacher.depth):
        if index not in shared:
            yield from (_Weight(shape, False, sharded=True) for shape in teacher.layer(index))
    yield from (_Weight(shape, False) for shape in teacher.head)


def _remembered(settings: DistillSettings, found: Survey) -> int:
    frozen = settings.train.freeze_vision or settings.lora.rank > 0
    return min(LIMIT, found.images * found.image_bytes) if frozen else 0
