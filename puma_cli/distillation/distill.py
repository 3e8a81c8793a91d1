"""`puma distill`: train a student, with or without a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.provenance import Parent
from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.training_settings import FRESH, NO_TEACHER, DistillSettings
from puma_cli.data.training_data import open_training_data
from puma_cli.distillation.asked_once import ask_teacher
from puma_cli.distillation.checks import check_training, without_effect
from puma_cli.distillation.forecast.out_of_memory import memory_explained
from puma_cli.distillation.frozen_vision import planned_images
from puma_cli.distillation.live_page import LivePage
from puma_cli.distillation.loop import Training
from puma_cli.distillation.objective import Objective
from puma_cli.distillation.output import TrainingFolder
from puma_cli.distillation.preparation import prepare, trained_so_far
from puma_cli.distillation.projection import ready_projection
from puma_cli.distillation.state import Progress
from puma_cli.distillation.stored_teacher import is_stored
from puma_cli.distillation.teacher_cache import planned_inputs
from puma_cli.distillation.trackers import choose_trackers, close_trackers
from puma_cli.distillation.validation import Validation
from puma_cli.errors import ConfigError
from puma_cli.interruption import Stopped, StopRequest
from puma_cli.models.devices import name_device
from puma_cli.processes import join
from puma_cli.progress import SILENT, Reporter

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DistillResult:
    """What a training came to.

    Args:
        folder: the output folder; a checkpoint once `finished`.
        steps: optimizer steps done.
        best_step: step whose weights were kept.
        best_score: their mean hit@1 on the validation split [0, 1], or None without validation.
        seconds: time spent training, over all sessions.
        finished: whether the last step was reached.
    """

    folder: Path
    steps: int
    best_step: int
    best_score: float | None
    seconds: float
    finished: bool


def distill(settings: DistillSettings, reporter: Reporter = SILENT) -> DistillResult:
    """Train `settings.student` and write the best weights to `settings.output_dir`.

    Ctrl-C and SIGTERM stop between two steps, with state saved; `settings.resume` goes on from it.

    Raises:
        ConfigError: settings contradict one another.
        DataError: the training data are missing or broken.
        DeviceError: memory ran out.
        OutputError: the output folder is taken.
        Stopped: a signal ended the training early.
    """
    return train(settings, TrainingFolder(settings.output_dir), reporter)


def train(
    settings: DistillSettings,
    output: TrainingFolder,
    reporter: Reporter,
    stop: StopRequest | None = None,
) -> DistillResult:
    """Do what `distill` does, in a folder that the caller has chosen.

    Args:
        output: the folder of `settings.output_dir`.
        stop: asked for between steps; by default it listens for signals while there are steps.
    """
    check_settings(settings)
    if settings.dry_run:
        raise ConfigError(
            "A dry run trains nothing.",
            hint="Call forecast_training(settings), or set dry_run=False.",
        )
    objective = Objective(settings.loss)
    check_training(settings)
    trackers = choose_trackers(settings.train.trackers)
    processes = join(settings.device)
    if not processes.is_main:
        reporter = SILENT
    for sentence in without_effect(settings):
        reporter.note(sentence)
    data = open_training_data(settings, reporter)
    finished = processes.first(lambda: output.open(settings))
    if finished is not None:
        reporter.note(f"{settings.output_dir} is finished already.")
        return result_of(output.root, finished, finished=True)
    with StopRequest(settings.stop_after) if stop is None else stop as stop:
        try:
            parents = processes.first(lambda: _parents(settings))
            with memory_explained(settings, data, output, processes):
                training = prepare(settings, data, objective, output, trackers, reporter, processes)
        except BaseException:
            if processes.is_main:
                output.withdraw()
            raise
        if processes.is_main:
            output.begin()
        validation = Validation(data.validation, settings, processes)
        with memory_explained(settings, data, output, processes, lambda: training):
            ready = ask_teacher(training, validation, reporter, stop) and _seen(
                training, reporter, stop
            )
            if ready and objective.projection is not None:
                _project(training, objective.projection, output, reporter)
            reached_end = ready and training.run(reporter, stop)
        close_trackers(training.accelerator)
        if reached_end:
            _note_unreadable(training, reporter)
            _finish(training, settings, output, parents)
        if ready and processes.is_main:
            LivePage(output.root, reporter).draw()
    result = result_of(output.root, training.progress, reached_end)
    if stop.signal is not None and not reached_end:
        raise Stopped(
            f"Stopped after step {result.steps} of {training.steps}; the state is saved.",
            exit_code=stop.exit_code,
            hint=f"Go on with the same command and --resume; the state is in {output.state}.",
        )
    return result


def _note_unreadable(training: Training, reporter: Reporter) -> None:
    """Say how many images could not be read by any process."""
    own = {str(path) for path in training.pair.embedder.processor.images.unreadable}
    every = sorted(set().union(*training.processes.gather(own)))
    if every:
        reporter.note(
            f"{len(every):,} images could not be read, and what shows them was left out; the first "
            f"is {every[0]}."
        )


def _finish(
    training: Training, settings: DistillSettings, output: TrainingFolder, parents: list[Parent]
) -> None:
    processes = training.processes
    trained = trained_so_far(training.pair, settings, processes)

    def write() -> None:
        assert trained is not None
        device = name_device(training.pair.embedder.device)
        output.finish(settings, trained, training.pair.cut, device, training.progress, parents)

    processes.first(write)


def _seen(training: Training, reporter: Reporter, stop: StopRequest) -> bool:
    """Let a frozen vision tower see the images; return False if a signal asked to stop."""
    steps = training.steps * training.settings.batch.accumulate
    images = planned_images(training.order, training.examples, steps, training.processes)
    with training.accelerator.autocast():
        seen = training.pair.remember(images, reporter, stop)
    return not training.processes.any(not seen)


def _project(
    training: Training, projection: nn.Linear, output: TrainingFolder, reporter: Reporter
) -> None:
    """Fit the map to the teacher's embeddings; a learned one that has moved on stays as it is."""
    if projection.weight.requires_grad and training.progress.step:
        return
    inputs = planned_inputs(training.order, training.examples, min(training.steps, 200))
    ready_projection(
        projection,
        output.state / "projection.safetensors",
        training.pair,
        inputs,
        training.cache,
        training.processes,
        reporter,
    )


def _parents(settings: DistillSettings) -> list[Parent]:
    full = settings.full_hash
    parents = [
        Parent(role, name, identify(Path(name) if is_stored(name) else resolve(name), full))
        for role, name in (("student", settings.student), ("teacher", settings.teacher))
        if name not in (FRESH, NO_TEACHER)
    ]
    data = identify(settings.data, full)
    return [*parents, Parent("data", str(settings.data), data)]


def result_of(folder: Path, progress: Progress, finished: bool) -> DistillResult:
    """Return what a training has come to whose progress is known."""
    score: Any = progress.best_score
    return DistillResult(
        folder=folder,
        steps=progress.step,
        best_step=progress.best_step,
        best_score=score if score >= 0 else None,
        seconds=progress.seconds,
        finished=finished,
    )
