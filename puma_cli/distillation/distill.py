"""`puma distill`: train a student, with or without a teacher, from a data set in M-BEIR layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.provenance import Parent, read_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import FRESH, NO_TEACHER, DistillSettings
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.data.records import Query
from puma_cli.distillation.asked_once import ask_teacher
from puma_cli.distillation.checks import check_training, check_widths, is_mixed
from puma_cli.distillation.frozen_vision import planned_images
from puma_cli.distillation.live_page import LivePage
from puma_cli.distillation.log import TrainingLog
from puma_cli.distillation.loop import Training
from puma_cli.distillation.objective import Objective, prefixes
from puma_cli.distillation.optimizer import build_optimizer
from puma_cli.distillation.output import TrainingFolder
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.state import Progress, latest_state, load_state
from puma_cli.distillation.step import Step
from puma_cli.distillation.teacher_cache import TeacherCache, identify_teacher, planned_inputs
from puma_cli.distillation.trackers import (
    accelerator_options,
    choose_trackers,
    close_trackers,
    start_trackers,
)
from puma_cli.distillation.validation import HitRates, Validation
from puma_cli.errors import ConfigError
from puma_cli.interruption import Stopped, StopRequest
from puma_cli.models.devices import choose_device
from puma_cli.models.embedder import Embedder, load
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.fresh import build_fresh
from puma_cli.progress import SILENT, Reporter


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
        OutputError: the output folder is taken.
        Stopped: a signal ended the training early.
    """
    check_settings(settings)
    objective = Objective(settings.loss)
    check_training(settings)
    trackers = choose_trackers(settings.train.trackers)
    data = MbeirFolder(settings.data)
    queries = data.train_queries(settings.tasks)
    output = TrainingFolder(settings.output_dir)
    finished = output.open(settings)
    if finished is not None:
        reporter.note(f"{settings.output_dir} is finished already.")
        return _result(output.root, finished, finished=True)
    with StopRequest(settings.stop_after) as stop:
        try:
            parents = _parents(settings)
            training = _prepare(settings, data, queries, objective, output, trackers, reporter)
        except BaseException:
            output.withdraw()
            raise
        output.begin()
        ready = ask_teacher(training, Validation(data, settings), reporter, stop) and _seen(
            training, reporter, stop
        )
        reached_end = ready and training.run(reporter, stop)
        close_trackers(training.accelerator)
        if reached_end:
            output.finish(settings, training.pair, training.progress, parents)
        if ready:
            LivePage(output.root, reporter).draw()
    result = _result(output.root, training.progress, reached_end)
    if stop.signal is not None and not reached_end:
        raise Stopped(
            f"Stopped after step {result.steps} of {training.steps}; the state is saved.",
            exit_code=stop.exit_code,
            hint=f"Go on with the same command and --resume; the state is in {output.state}.",
        )
    return result


def _prepare(
    settings: DistillSettings,
    data: MbeirFolder,
    queries: list[Query],
    objective: Objective,
    output: TrainingFolder,
    trackers: list[str],
    reporter: Reporter,
) -> Training:
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    device = choose_device(settings.device)
    mixed = is_mixed(settings.dtype, device.type)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if mixed else "no",
        **accelerator_options(trackers, output.root),
    )
    if accelerator.num_processes > 1:
        raise ConfigError(
            f"{accelerator.num_processes} processes were started.",
            cause="This version trains in one process.",
            hint="Start it as `puma distill ...`, without a launcher.",
        )
    student = _student(settings, data, queries, output)
    student.to(device)
    prefixes(settings.loss, student.dimension)
    set_seed(settings.seed)
    teacher = None
    cached = objective.needs_teacher and settings.train.cache_teacher
    if objective.needs_teacher:
        width = settings_for(resolve(settings.teacher)).dimension
        check_widths(settings, student.dimension, width)
        if not cached:
            teacher = load(settings.teacher, settings.device, "float32")
    pair = Pair(student, teacher, _kept_layers(settings), settings.lora, settings.train)
    trained = objective.to(device).trained_with(pair.model)
    optimizer = build_optimizer(trained, settings.optimizer)
    order = BatchOrder(
        queries,
        settings.batch.size,
        settings.batch.grouping,
        settings.seed,
        settings.batch.neighbours,
    )
    examples = Examples(
        queries,
        data.union_pool("train"),
        data.instructions,
        settings.batch.instruction,
        settings.seed,
        settings.batch.augment,
        fixed=cached,
        negatives=settings.batch.negatives,
    )
    steps = settings.train.steps or max(1, int(settings.train.epochs * order.steps_per_epoch))
    state = latest_state(output.state)
    progress = Progress() if state is None else load_state(state, trained, optimizer)
    weights = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    reporter.note(
        f"{len(queries):,} training queries, {steps:,} steps of {settings.batch.size}; "
        f"{weights / 1e6:.2f} M weights train on {device}"
        + (", one copy serves student and teacher" if pair.shared else "")
        + (f"; going on from step {progress.step:,}" if progress.step else "")
    )
    cache = None
    if cached:
        cache = TeacherCache(
            Path(settings.train.cache_dir or output.state / "teacher"),
            planned_inputs(order, examples, steps),
            identify_teacher(resolve(settings.teacher), settings.full_hash),
        )
    log = TrainingLog(output.log)
    log.rewind(progress.step)
    start_trackers(accelerator, settings, progress.step)
    validation = Validation(data, settings)
    return Training(
        pair=pair,
        objective=objective,
        gradients=Step(pair, objective, accelerator, settings.batch, cache),
        trained=trained,
        order=order,
        examples=examples,
        optimizer=accelerator.prepare(optimizer),
        accelerator=accelerator,
        settings=settings,
        steps=steps,
        folder=output.state,
        log=log,
        validate=lambda: _validate(pair, validation),
        keep_best=lambda: output.keep_best(pair, settings.train.save_dtype),
        draw=LivePage(output.root, reporter).draw_if_due,
        progress=progress,
        cache=cache,
    )


def _seen(training: Training, reporter: Reporter, stop: StopRequest) -> bool:
    """Let a frozen vision tower see the images; return False if a signal asked to stop."""
    images = planned_images(training.order, training.examples, training.steps)
    with training.accelerator.autocast():
        return training.pair.remember(images, reporter, stop)


def _student(
    settings: DistillSettings, data: MbeirFolder, queries: list[Query], output: TrainingFolder
) -> Embedder:
    if settings.student != FRESH:
        return load(settings.student, settings.device, "float32")
    # The new weights and their tokenizer are written at once, so that a resume finds them.
    if not output.initial.is_dir():
        texts = _training_texts(settings, data, queries)
        output.keep_initial(build_fresh(settings.fresh, texts, settings.seed))
    return load(output.initial, settings.device, "float32")


def _training_texts(
    settings: DistillSettings, data: MbeirFolder, queries: list[Query]
) -> Iterator[str]:
    """Yield every text as often as the model will read it, so that common words become one token.

    A prompt is read with every query: counted once, its words would be spelled out each time.
    """
    instructions = (
        data.instructions.pick(query, settings.batch.instruction, settings.seed)
        for query in queries
    )
    own = (query.text for query in queries)
    candidates = (entry.text for entry in data.union_pool("train"))
    return (text for text in chain(instructions, own, candidates) if text)


def _validate(pair: Pair, validation: Validation) -> HitRates | None:
    if not validation:
        return None
    with pair.student() as student:
        return validation.score(student)


def _kept_layers(settings: DistillSettings) -> list[int] | None:
    """Which of the teacher's layers the student's puma.json says it was cut from."""
    if settings.student == FRESH or settings.teacher == NO_TEACHER:
        return None
    provenance = read_provenance(resolve(settings.student))
    return None if provenance is None else provenance.kept_layers


def _parents(settings: DistillSettings) -> list[Parent]:
    parents = [
        Parent(role, name, identify(resolve(name), settings.full_hash))
        for role, name in (("student", settings.student), ("teacher", settings.teacher))
        if name not in (FRESH, NO_TEACHER)
    ]
    data = identify(settings.data, settings.full_hash)
    return [*parents, Parent("data", str(settings.data), data)]


def _result(folder: Path, progress: Progress, finished: bool) -> DistillResult:
    score: Any = progress.best_score
    return DistillResult(
        folder=folder,
        steps=progress.step,
        best_step=progress.best_step,
        best_score=score if score >= 0 else None,
        seconds=progress.seconds,
        finished=finished,
    )
