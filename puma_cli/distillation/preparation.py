"""Everything that a training needs, built from its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.training_settings import FRESH, NO_TEACHER, DistillSettings
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.data.mixture import mixture_of
from puma_cli.data.training_data import TrainingData
from puma_cli.distillation.checks import check_fading, check_shardable, check_widths
from puma_cli.distillation.hints import NO_HINTS, hint_depths
from puma_cli.distillation.live_page import LivePage
from puma_cli.distillation.log import TrainingLog
from puma_cli.distillation.loop import Training
from puma_cli.distillation.objective import Objective, prefixes
from puma_cli.distillation.optimizer import build_optimizer
from puma_cli.distillation.output import Trained, TrainingFolder
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.running import (
    open_student,
    open_teacher,
    original_of,
    speed_up,
    start,
    teacher_dtype,
)
from puma_cli.distillation.state import Progress, StateFolder
from puma_cli.distillation.step import Step
from puma_cli.distillation.stored_teacher import (
    StoredTeacher,
    is_stored,
    planned_names,
    reads_once,
    teacher_width,
)
from puma_cli.distillation.teacher_cache import TeacherCache, identify_teacher, planned_inputs
from puma_cli.distillation.trackers import start_trackers
from puma_cli.distillation.validation import HitRates, Validation
from puma_cli.models.devices import DTYPES, choose_device
from puma_cli.models.fresh import build_fresh
from puma_cli.processes import Processes
from puma_cli.progress import Reporter
from puma_cli.pruning.planning.plan import depth_of


def prepare(
    settings: DistillSettings,
    data: TrainingData,
    objective: Objective,
    output: TrainingFolder,
    trackers: list[str],
    reporter: Reporter,
    processes: Processes,
    taken: int | None = None,
) -> Training:
    """Return a training that is ready to fill its teacher's cache and to take its first step.

    Args:
        trackers: where the log's numbers go besides, from `choose_trackers`.
        taken: steps that will be taken, if not all: the cache is for what these show.

    Raises:
        CheckpointError: student or teacher cannot be opened.
        ConfigError: settings do not fit one another or the models.
        DataError: a folder of embeddings lacks what the training shows.
    """
    from accelerate.utils import set_seed

    device = choose_device(settings.device)
    accelerator = start(settings, device, trackers)
    folder = student_folder(settings, data, output, processes)
    student = open_student(folder, settings)
    student.to(device)
    prefixes(settings.loss, student.dimension)
    set_seed(settings.seed)
    teacher, hints = None, NO_HINTS
    cached = objective.needs_teacher and reads_once(settings)
    if objective.needs_teacher:
        width = teacher_width(settings.teacher)
        check_widths(settings, student.dimension, width)
        objective.add_projection(student.dimension, width)
        if settings.loss.hints:
            depth = depth_of(resolve(settings.teacher))
            hints = hint_depths(student.depth, depth, settings.loss.hint_depths)
        if not cached:
            teacher = open_teacher(settings)
    if settings.train.fade_head:
        check_fading(student)
    pair = Pair(
        student,
        teacher,
        kept_layers(settings),
        settings.lora,
        settings.train,
        hints,
        original_of(folder, settings),
    )
    if settings.train.strategy == "fsdp2" and processes.count > 1:
        check_shardable(pair)
        pair.shard(processes, device)
    speed_up(pair, settings.train)
    trained = objective.to(device).trained_with(pair.model)
    optimizer = build_optimizer(trained, settings.optimizer, pair.kept)
    # From here on, processes draw random numbers of their own: no two drop out alike.
    set_seed(settings.seed, device_specific=True)
    order, examples, steps = plan_steps(settings, data)
    states = StateFolder(
        output.state, trained, optimizer, device, settings.train.keep_states, processes
    )
    progress, before = states.load() or (Progress(), processes.count)
    weights = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    reporter.note(
        f"{len(data.queries):,} training queries, {steps:,} steps of {settings.batch.size}; "
        f"{weights / 1e6:.2f} M weights train on {device}"
        + (f" and {processes.count} processes" if processes.count > 1 else "")
        + (", one copy serves student and teacher" if pair.shared else "")
        + (f"; going on from step {progress.step:,}" if progress.step else "")
    )
    if before != processes.count:
        reporter.note(
            f"The state is of {before} processes, and {processes.count} go on: batches come in the "
            "same order; dropout and the last digits of sums will differ."
        )
    cache: TeacherCache | StoredTeacher | None = None
    if cached and is_stored(settings.teacher):
        named = planned_names(order, examples, (taken or steps) * settings.batch.accumulate)
        cache = StoredTeacher(Path(settings.teacher), named)
    elif cached:
        cache = TeacherCache(
            Path(settings.train.cache_dir or output.state / "teacher"),
            planned_inputs(order, examples, (taken or steps) * settings.batch.accumulate),
            identify_teacher(
                resolve(settings.teacher),
                teacher_dtype(settings),
                settings.batch.max_pixels,
            ),
            hints[1],
            DTYPES[settings.train.cache_dtype],
            settings.train.verify_cache,
            settings.train.encode_batch,
        )
    log = TrainingLog(output.log, writes=processes.is_main)
    processes.first(lambda: log.rewind(progress.step))
    start_trackers(accelerator, settings, progress.step)
    page = LivePage(output.root, reporter)
    return Training(
        pair=pair,
        objective=objective,
        gradients=Step(
            pair, objective, accelerator, settings.batch, cache, processes, pair.sharded
        ),
        trained=trained,
        order=order,
        examples=examples,
        optimizer=optimizer,
        accelerator=accelerator,
        settings=settings,
        steps=steps,
        states=states,
        log=log,
        validate=_validate(pair, Validation(data.validation, settings, processes)),
        keep_best=_keep_best(pair, output, settings, processes),
        drop_worse=output.drop_worse if processes.is_main else lambda step: None,
        draw=page.draw_if_due if processes.is_main else lambda: None,
        progress=progress,
        cache=cache,
        processes=processes,
    )


def plan_steps(settings: DistillSettings, data: TrainingData) -> tuple[BatchOrder, Examples, int]:
    """Return the order of a training's batches, what makes examples of them, and its steps.

    Raises:
        ConfigError: tasks are weighted that the data do not have.
        DataError: no batch can be filled, or a query has no positive.
    """
    order = BatchOrder(
        data.queries,
        settings.batch.size,
        settings.batch.grouping,
        settings.seed,
        settings.batch.neighbours,
        data.tasks,
        mixture_of(data.tasks, settings.batch),
    )
    examples = Examples(
        data.queries,
        data.pool,
        data.instructions,
        settings.batch.instruction,
        settings.seed,
        settings.batch.augment,
        fixed=settings.loss.needs_teacher and reads_once(settings),
        negatives=settings.batch.negatives,
    )
    epoch = order.steps_per_epoch // settings.batch.accumulate
    return order, examples, settings.train.steps or max(1, int(settings.train.epochs * epoch))


def _keep_best(
    pair: Pair, output: TrainingFolder, settings: DistillSettings, processes: Processes
) -> Callable[[int], None]:
    def keep(step: int) -> None:
        trained = trained_so_far(pair, settings, processes)

        def write() -> None:
            assert trained is not None
            output.keep_best(trained, step, settings.train.save_dtype)

        processes.first(write)

    return keep


def trained_so_far(pair: Pair, settings: DistillSettings, processes: Processes) -> Trained | None:
    """Return what a training has come to, in the process that writes it; all must ask."""
    adapter = None
    if settings.lora.keep_adapter:
        adapter = pair.adapter(settings.student, wanted=processes.is_main)
    student = pair.gather(wanted=processes.is_main)
    return None if student is None else Trained(student, adapter)


def student_folder(
    settings: DistillSettings, data: TrainingData, output: TrainingFolder, processes: Processes
) -> Path:
    """Return where the untrained student lies; a fresh one is made there first."""
    if settings.student != FRESH:
        return resolve(settings.student)

    # The new weights and their tokenizer are written at once, so that a resume finds them.
    def build() -> None:
        if not output.initial.is_dir():
            texts = _training_texts(settings, data)
            output.keep_initial(build_fresh(settings.fresh, texts, settings.seed))

    processes.first(build)
    return output.initial


def _training_texts(settings: DistillSettings, data: TrainingData) -> Iterator[str]:
    """Yield every text as often as the model will read it, so that common words become one token.

    A prompt is read with every query: counted once, its words would be spelled out each time.
    """
    instructions = (
        data.instructions.pick(query, settings.batch.instruction, settings.seed)
        for query in data.queries
    )
    own = (query.text for query in data.queries)
    candidates = (entry.text for entry in data.pool)
    return (text for text in chain(instructions, own, candidates) if text)


def _validate(pair: Pair, validation: Validation) -> Callable[[], HitRates | None]:
    def validate() -> HitRates | None:
        if not validation:
            return None
        with pair.student() as student:
            return validation.score(student)

    return validate


def kept_layers(settings: DistillSettings) -> list[int] | None:
    """Return which of the teacher's layers the student's puma.json says it was cut from."""
    if settings.student == FRESH or settings.teacher == NO_TEACHER:
        return None
    provenance = read_provenance(resolve(settings.student))
    return None if provenance is None else provenance.kept_layers
