"""The first steps of a training, taken to see what they take, their weights thrown away."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.retrieval_data import RetrievalData
from puma_cli.data.training_data import TrainingData
from puma_cli.distillation.forecast.cache import CachePlan
from puma_cli.distillation.forecast.peak import PeakMemory
from puma_cli.distillation.forecast.survey import Survey
from puma_cli.distillation.frozen_vision import LIMIT, FrozenVision, planned_images
from puma_cli.distillation.loop import Training
from puma_cli.distillation.meter import Meter
from puma_cli.distillation.objective import Objective
from puma_cli.distillation.output import TrainingFolder
from puma_cli.distillation.preparation import prepare
from puma_cli.distillation.projection import HELD_OUT, ready_projection
from puma_cli.distillation.projection import ROWS as PROJECTED
from puma_cli.distillation.running import open_teacher
from puma_cli.distillation.stored_teacher import is_stored
from puma_cli.distillation.teacher_cache import TeacherCache, planned_inputs
from puma_cli.distillation.validation import Validation
from puma_cli.errors import NumericError
from puma_cli.evaluation.encode import Together
from puma_cli.evaluation.tasks import evenly, read_tasks
from puma_cli.interruption import StopRequest
from puma_cli.models.devices import choose_device
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.processes import Processes
from puma_cli.progress import SILENT, Reporter

WARM_UP = 1
# Inputs that a teacher or a validation is timed on, of those that it will read.
TIMED = 256


@dataclass(frozen=True)
class Measured:
    """What some steps took, and what the whole training will.

    Args:
        steps: those that were timed, after the warm-up.
        step_seconds: time of one, on average.
        losses: the loss of every step taken, that of the warm-up first.
        memory: most bytes held during the steps: by tensors on CUDA, elsewhere what the process
            grew by; None where the system does not say.
        opening_memory: likewise before the first step, while both models are open.
        seconds: estimated time of each stage of the training.
    """

    steps: int
    step_seconds: float
    losses: tuple[float, ...]
    memory: int | None
    opening_memory: int | None
    seconds: dict[str, float]


def measure(
    settings: DistillSettings,
    data: TrainingData,
    found: Survey,
    cache: CachePlan | None,
    output: TrainingFolder,
    processes: Processes,
    reporter: Reporter,
    steps: int,
) -> Measured:
    """Take the training's first steps, and time what comes before and between.

    Args:
        settings: those of the training, with `output` as their folder.
        output: a folder that will be thrown away.
        steps: to time, after the warm-up (>= 1).

    Raises:
        NumericError: the loss is not finite.
        torch.OutOfMemoryError: the device is too small.
    """
    device = choose_device(settings.device)
    taken = min(found.steps, WARM_UP + steps)
    peak = PeakMemory(device)
    training = prepare(
        settings, data, Objective(settings.loss), output, [], SILENT, processes, taken
    )
    clock = _Clock(device, processes)
    stages = _Stages(settings, training, found, cache, processes, clock, taken)
    seconds = stages.before(data.validation, output)
    opening = peak.read()
    gc.collect()
    peak.restart()
    losses, times = [], []
    try:
        with clock as since:
            for values, _ in training.take_steps(taken, Meter(device, 0, found.steps)):
                times.append(since())
                losses.append(values["loss"])
                done = len(times)
                training.progress = replace(training.progress, step=done)
                reporter.step(done, taken, values)
    except NumericError as error:
        # The ids of its batch lie where nothing stays.
        hint = "Take a lower optimizer.learning_rate, or --dtype float32."
        raise NumericError(error.problem, cause="A training would end there.", hint=hint) from error
    memory = peak.read()
    timed = times[WARM_UP:] or times
    each = sum(timed) / len(timed)
    seconds["steps"] = each * found.steps
    if Validation(data.validation, settings):
        seconds["validations"] = stages.validations(data.validation)
    return Measured(
        steps=len(timed),
        step_seconds=each,
        losses=tuple(losses),
        memory=_most(memory, processes),
        opening_memory=_most(opening, processes),
        seconds=seconds,
    )


def _most(size: int | None, processes: Processes) -> int | None:
    """Return the largest of the sizes that the processes say, if they say any."""
    sizes = [each for each in processes.gather(size) if each is not None]
    return max(sizes, default=None)


class _Clock:
    """Tells seconds when what was asked of the device is done, those of the slowest process."""

    def __init__(self, device: torch.device, processes: Processes) -> None:
        self._device, self._processes = device, processes
        self._since = 0.0

    def __enter__(self) -> Callable[[], float]:
        self._since = self._now()
        return self._lap

    def __exit__(self, *error: object) -> None:
        pass

    def _lap(self) -> float:
        now = self._now()
        own, self._since = now - self._since, now
        return max(self._processes.gather(own))

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.monotonic()


@dataclass(frozen=True)
class _Stages:
    """What a training does beside its steps, on a part of the inputs."""

    settings: DistillSettings
    training: Training
    found: Survey
    cache: CachePlan | None
    processes: Processes
    clock: _Clock
    taken: int

    def before(self, validation: RetrievalData | None, output: TrainingFolder) -> dict[str, float]:
        """Ready the steps, and return the seconds of each stage before them, if it takes any."""
        seconds = {}
        asked = self.settings.loss.needs_teacher and self.settings.train.validate_teacher
        asked = asked and not is_stored(self.settings.teacher)
        judged = asked and bool(Validation(validation, self.settings))
        missing = self.cache is not None and self.cache.missing > 0
        with _teacher_of(self.training, wanted=judged or missing) as teacher:
            if self.cache is not None:
                seconds["teacher_cache"] = self._fill(self.cache, teacher, output)
            if teacher is not None and judged:
                seconds["teacher_validation"] = self._judge(teacher, validation)
        if self.found.images:
            seconds["images"] = self._see()
        if self.training.objective.projection is not None:
            seconds["projection"] = self._project(output)
        return seconds

    def validations(self, validation: RetrievalData | None) -> float:
        """Return the seconds of all validations."""
        every, steps = self.settings.train.validate_every, self.found.steps
        with self.training.pair.student() as student:
            return -(-steps // every) * self._judge(student, validation)

    def _judge(self, embedder: Embedder, validation: RetrievalData | None) -> float:
        """Return the seconds that a model would take for a validation."""
        assert validation is not None
        inputs = _validated(validation, self.settings)
        sample = list(evenly(inputs, TIMED))
        together = Together(embedder, self.processes)
        with self.clock as since:
            together.encode(sample)
            return since() * len(inputs) / len(sample)

    def _fill(self, cache: CachePlan, teacher: Embedder | None, output: TrainingFolder) -> float:
        """Fill the cache for the steps, and return the seconds of filling all of it."""
        training, stop = self.training, StopRequest()
        assert isinstance(training.cache, TeacherCache)
        training.cache.fill(lambda: _opened(teacher), SILENT, stop, self.processes)
        if not cache.missing:
            return 0.0
        # Drawn evenly: the first steps may show few of the tasks.
        sample = list(evenly(cache.entries, TIMED))
        rows = TeacherCache(output.state / "timed", sample, "", verify=False)
        with self.clock as since:
            rows.fill(lambda: _opened(teacher), SILENT, stop, self.processes)
            took = since()
        # All of the processes share in the sample as they will in the whole.
        return took * cache.missing / len(rows)

    def _see(self) -> float:
        """Let a frozen tower see the images of the steps, and return the seconds of all of them."""
        found, training = self.found, self.training
        number = self.taken * self.settings.batch.accumulate
        planned = planned_images(training.order, training.examples, number, self.processes)
        images, stop = list(planned), StopRequest()
        if not images or not training.pair.vision_is_frozen:
            return 0.0
        fits = (found.images + 1) * found.image_bytes <= LIMIT
        with training.accelerator.autocast(), self.clock as since:
            if fits:
                training.pair.remember(images, SILENT, stop)
            else:
                # Most steps will show images that are not remembered, and so do these.
                FrozenVision(training.pair.embedder).fill(images, SILENT, stop)
            return since() * found.images / len(images)

    def _project(self, output: TrainingFolder) -> float:
        training, each = self.training, self.settings.batch.accumulate
        assert training.objective.projection is not None
        inputs = planned_inputs(training.order, training.examples, self.taken * each)
        if len(inputs) < 2 * HELD_OUT:
            return 0.0
        whole = planned_inputs(training.order, training.examples, min(self.found.steps, 200))
        path = output.state / "projection.safetensors"
        parts = training.objective.projection, path, training.pair, inputs, training.cache
        with self.clock as since:
            ready_projection(*parts, self.processes, SILENT)
            return since() * min(PROJECTED, len(whole)) / min(PROJECTED, len(inputs))


@contextmanager
def _teacher_of(training: Training, wanted: bool) -> Iterator[Embedder | None]:
    """Give the teacher, opened for as long as the context lasts if it is not there anyway."""
    if not wanted:
        yield None
    elif training.pair.teacher is not None:
        with training.pair.teaching() as teacher:
            yield teacher
    else:
        yield open_teacher(training.settings)


def _opened(teacher: Embedder | None) -> Embedder:
    assert teacher is not None
    return teacher


def _validated(data: RetrievalData, settings: DistillSettings) -> Sequence[Input]:
    """Return the distinct inputs that a validation reads."""
    found: dict[Input, None] = {}
    for task in read_tasks(data, "val", settings.tasks, settings.train.validation_limit):
        found |= dict.fromkeys(task.inputs(data.instructions))
        pool = data.local_pool(task.name, "val")
        found |= dict.fromkeys(candidate.to_input() for candidate in pool)
    return list(found)


def rehearsal(settings: DistillSettings, folder: Path, complete: bool) -> DistillSettings:
    """Return the settings of a training that leaves nothing but a folder.

    Args:
        folder: where it may write.
        complete: whether the training's own cache holds what its first steps need.
    """
    cache_dir = settings.train.cache_dir if complete else ""
    return replace(
        settings,
        output_dir=folder,
        resume=False,
        overwrite=False,
        stop_after=None,
        dry_run=False,
        train=replace(settings.train, cache_dir=cache_dir, verify_cache=False),
    )
