"""What a training's memory follows from, beside its settings: its models and its batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from puma_cli.checkpoint.decoder_keys import EMBEDDINGS, LAYERS, VISION
from puma_cli.checkpoint.source import resolve
from puma_cli.config.training_settings import BatchSettings, DistillSettings
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.data.training_data import TrainingData
from puma_cli.distillation.checks import is_mixed
from puma_cli.distillation.forecast.activations import Pass, pass_of
from puma_cli.distillation.forecast.network import Network, count, read_network, same_sample
from puma_cli.distillation.frozen_vision import LARGEST, LIMIT, planned_images
from puma_cli.distillation.output import TrainingFolder
from puma_cli.distillation.preparation import kept_layers, plan_steps, student_folder
from puma_cli.distillation.shares import deal
from puma_cli.distillation.stored_teacher import is_stored, teacher_width
from puma_cli.models.batch_plan import FEWEST, InputSize, plan_batches
from puma_cli.models.devices import choose_device
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.processing import Processor
from puma_cli.models.processors import open_processors
from puma_cli.models.splitting import places_by_length, tokens_of_a_pass
from puma_cli.processes import Processes

# Batches whose inputs are measured, evenly over the first epoch.
LOOKED_AT = 12


@dataclass(frozen=True)
class Survey:
    """Models and batches of a training.

    Args:
        student: sizes of the student as a model of its own.
        teacher: sizes of the teacher, or None.
        kept: the teacher's layers that the student is, weight for weight, or None if it is not.
        same_vision: whether both see with the same weights.
        same_embeddings: whether both have the same token embeddings.
        batches: sizes of the inputs of some batches, those of the process that has most to do.
        rows: queries and candidates of the largest of these batches, over all processes (B + C).
        patch_pixels: pixels of an image patch.
        images: images that a frozen vision tower is shown first, as far as there is room for them.
        image_bytes: what it says of one, on average.
        device: kind of device, such as `cuda`.
        mixed: whether it computes under bfloat16 autocast.
        processes: how many share the training.
        steps: optimizer steps in all.
        stored: length of a teacher's embeddings that are given without it, or 0.
    """

    student: Network
    teacher: Network | None
    kept: tuple[int, ...] | None
    same_vision: bool
    same_embeddings: bool
    batches: tuple[tuple[InputSize, ...], ...]
    rows: int
    patch_pixels: int
    images: int
    image_bytes: int
    device: str
    mixed: bool
    processes: int
    steps: int
    stored: int = 0

    @property
    def teacher_dimension(self) -> int:
        """Length of a teacher's embedding, or 0 without one."""
        return self.stored if self.teacher is None else self.teacher.dimension

    def divided(self, settings: BatchSettings) -> list[list[Pass]]:
        """Return the passes of each batch whose graphs are held at once.

        In chunks, that is each alone: as many lists of one.
        """
        found = []
        per_pass = tokens_of_a_pass(count(self.student.layer(0)), self.device == "cuda")
        for sizes in self.batches:
            passes, chunked = _divide(sizes, settings, self.patch_pixels, per_pass)
            found += [[one] for one in passes] if chunked else [passes]
        return found


def survey(
    settings: DistillSettings,
    data: TrainingData,
    output: TrainingFolder,
    processes: Processes,
    first: Iterable[int] = range(4),
    shared_by: int | None = None,
) -> Survey:
    """Look at a training's models and at some of its batches; no weight is read.

    Args:
        output: where a fresh student is made.
        first: batches to look at besides.
        shared_by: how many processes share the training, if others than `processes`.

    Raises:
        CheckpointError: a model is missing or broken.
        DataError: the data are broken.
    """
    folder = student_folder(settings, data, output, processes)
    student = read_network(folder)
    stored = settings.loss.needs_teacher and is_stored(settings.teacher)
    asked = settings.loss.needs_teacher and not stored
    teacher = read_network(resolve(settings.teacher)) if asked else None
    kept = kept_layers(settings) if teacher else None
    same = {part: _same(student, teacher, part) for part in (VISION, EMBEDDINGS)}
    order, examples, steps = plan_steps(settings, data)
    numbers = _spread(order, steps * settings.batch.accumulate, first)
    processes_count = shared_by or processes.count
    batches, rows, pixels = _sizes(settings, folder, order, examples, numbers, processes_count)
    per_image = _image_bytes(student, batches, pixels)
    planned = planned_images(order, examples, steps * settings.batch.accumulate, processes)
    images = sum(1 for _ in islice(planned, LIMIT // per_image)) if per_image else 0
    device = choose_device(settings.device).type
    return Survey(
        student=student,
        teacher=teacher,
        kept=tuple(kept) if kept and all(same.values()) and _cut(student, teacher, kept) else None,
        same_vision=same[VISION],
        same_embeddings=same[EMBEDDINGS],
        batches=tuple(batches),
        rows=rows,
        patch_pixels=pixels,
        images=images,
        image_bytes=per_image,
        device=device,
        mixed=is_mixed(settings.dtype, device),
        processes=processes_count,
        steps=steps,
        stored=teacher_width(settings.teacher) if stored else 0,
    )


def _same(student: Network, teacher: Network | None, part: str) -> bool:
    return teacher is not None and same_sample(student, teacher, part, {0: 0})


def _cut(student: Network, teacher: Network | None, kept: Sequence[int]) -> bool:
    if teacher is None or len(kept) != student.depth or max(kept) >= teacher.depth:
        return False
    return same_sample(student, teacher, LAYERS, dict(enumerate(kept)))


def _image_bytes(student: Network, batches: Iterable[Sequence[InputSize]], pixels: int) -> int:
    """Return the bytes of an image's features on average, or 0 if none is remembered."""
    merged = pixels * student.tower.merged
    images = [4 * student.width * (s.pixels // merged) for sizes in batches for s in sizes]
    shown = [size for size in images if size]
    return sum(shown) // len(shown) if shown and max(shown) <= LARGEST else 0


def _spread(order: BatchOrder, batches: int, first: Iterable[int]) -> list[int]:
    within = min(batches, order.steps_per_epoch)
    evenly = {place * within // LOOKED_AT for place in range(LOOKED_AT)}
    return sorted(evenly | {number for number in first if number < batches})


def _sizes(
    settings: DistillSettings,
    folder: Path,
    order: BatchOrder,
    examples: Examples,
    numbers: Sequence[int],
    processes: int,
) -> tuple[list[tuple[InputSize, ...]], int, int]:
    """Return the inputs' sizes in the largest share of each batch, the rows, a patch's pixels."""
    own = settings_for(folder)
    if settings.batch.max_pixels is not None:
        own = own.limited(settings.batch.max_pixels)
    tokenizer, image_processor = open_processors(folder, own)
    # Positions are not asked for: sizes need none.
    processor = Processor(tokenizer, image_processor, own, positions=lambda **_: ())  # type: ignore
    processor.images.stands_in = settings.batch.bad_images == "skip"
    found, rows = [], 0
    for number in numbers:
        epoch, indices = order.batch(number)
        inputs = examples.batch(indices, epoch).inputs
        sizes = processor.sizes(inputs)
        shares = [[sizes[i] for i in share] for share in deal(inputs, processes)]
        found.append(tuple(max(shares, key=lambda share: sum(s.tokens for s in share))))
        rows = max(rows, len(inputs))
    return found, rows, 1 if image_processor is None else int(image_processor.patch_size) ** 2


def _divide(
    sizes: Sequence[InputSize], settings: BatchSettings, pixels: int, per_pass: int
) -> tuple[list[Pass], bool]:
    """Return the passes that a share of a batch is computed in, and whether they are chunks."""
    places = plan_batches(
        sizes, tokens=settings.chunk_tokens, pixels=settings.chunk_pixels, per_pass=FEWEST
    )
    asked = settings.chunk_tokens is not None or settings.chunk_pixels is not None
    chunked = asked and len(places) > 1
    if not chunked:
        places = places_by_length([size.tokens for size in sizes], per_pass)
    return [pass_of([sizes[i] for i in part], pixels) for part in places], chunked
