"""What a training would take: memory, disk and time, without training."""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from puma_cli.config.legal import check_settings
from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.training_data import open_training_data
from puma_cli.distillation.checks import check_training
from puma_cli.distillation.forecast.cache import CachePlan, plan_cache
from puma_cli.distillation.forecast.measuring import WARM_UP, Measured, measure, rehearsal
from puma_cli.distillation.forecast.memory import (
    MemoryPlan,
    largest_pass,
    opened_bytes,
    plan_memory,
    shares_weights,
)
from puma_cli.distillation.forecast.out_of_memory import lack_of_memory
from puma_cli.distillation.forecast.remedies import Remedy, find_remedies
from puma_cli.distillation.forecast.survey import survey
from puma_cli.distillation.objective import Objective
from puma_cli.distillation.output import TrainingFolder
from puma_cli.distillation.preparation import plan_steps
from puma_cli.distillation.teacher_cache import planned_inputs
from puma_cli.errors import is_out_of_memory
from puma_cli.models.devices import choose_device, name_device
from puma_cli.processes import Processes, join
from puma_cli.progress import SILENT, Reporter

MEASURED_STEPS = 3


@dataclass(frozen=True)
class Forecast:
    """What a training would take.

    Args:
        queries: training queries.
        batch: queries in a batch, over all processes.
        inputs: most queries and candidates of a batch that was looked at.
        steps: optimizer steps.
        epochs: passes over the training queries that these are.
        device: what would train.
        processes: how many processes.
        one_copy: whether the teacher's weights serve as the student's too.
        pass_tokens: most tokens, with padding, whose graphs are held at once.
        memory: bytes of each process, by part.
        opening: bytes of both models whole, as they are opened before the first step.
        cache: the teacher's cache, or None.
        measured: what a few steps took, or None if none were taken or they did not fit.
        remedies: what would make them fit, if they did not.
    """

    queries: int
    batch: int
    inputs: int
    steps: int
    epochs: float
    device: str
    processes: int
    one_copy: bool
    pass_tokens: int
    memory: MemoryPlan
    opening: int
    cache: CachePlan | None
    measured: Measured | None
    remedies: tuple[Remedy, ...] = ()

    @property
    def peak(self) -> int:
        """Most bytes of a process by the estimate, while it opens the models or trains."""
        return max(self.opening, self.memory.total)

    @property
    def seconds(self) -> float | None:
        """The whole training's time by the steps that were measured, saving left out."""
        return None if self.measured is None else sum(self.measured.seconds.values())


@contextmanager
def _nowhere(processes: Processes) -> Iterator[Path]:
    """Give a folder that all processes see and that goes when the context ends."""
    folder = Path(processes.first(lambda: tempfile.mkdtemp(prefix="puma-")))
    try:
        yield folder
    finally:
        if processes.is_main:
            shutil.rmtree(folder, ignore_errors=True)


def _let_go() -> None:
    """Give back the memory of what was measured."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def forecast_training(
    settings: DistillSettings,
    reporter: Reporter = SILENT,
    steps: int = MEASURED_STEPS,
    trained: bool = False,
) -> Forecast:
    """Return what `distill` with these settings would take; nothing stays on the disk.

    The training's first steps are taken on its data, in a temporary folder; its output folder may
    be taken, and is not looked at.

    Args:
        steps: to time after one of warm-up, or 0 to take none.
        trained: the student will have been trained before, so that no layer of it is the teacher's
            any more: the estimate counts one copy for each, though the measured steps share one.

    Raises:
        ConfigError: settings contradict one another.
        DataError: the training data are missing or broken.
        DeviceError: memory ran out in one of several processes.
        NumericError: the first losses are not finite.
    """
    check_settings(settings)
    # It checks the weights and temperatures that it is given.
    Objective(settings.loss)
    check_training(settings)
    processes = join(settings.device)
    if not processes.is_main:
        reporter = SILENT
    data = open_training_data(settings, reporter)
    with _nowhere(processes) as folder:
        output = TrainingFolder(folder / "student")
        apart = rehearsal(settings, output.root, complete=False)
        processes.first(lambda: output.open(apart))
        found = survey(apart, data, output, processes)
        if trained:
            found = replace(found, kept=None)
        order, examples, _ = plan_steps(settings, data)
        cache = plan_cache(settings, found, order, examples)
        measured: Measured | None = None
        remedies: tuple[Remedy, ...] = ()
        if steps:
            taken = min(WARM_UP + steps, found.steps)
            first = planned_inputs(order, examples, taken * settings.batch.accumulate)
            complete = cache is not None and not set(cache.entries) & set(first)
            reporter.note(f"Taking {taken} steps, whose weights are thrown away.")
            apart = rehearsal(settings, output.root, complete)
            try:
                measured = measure(apart, data, found, cache, output, processes, reporter, steps)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if processes.count > 1:
                    # The others wait for this one, which may not go on without them.
                    when = "in the steps of its dry run"
                    raise lack_of_memory(error, when, settings, found) from error
                remedies = tuple(find_remedies(settings, found))
    _let_go()
    batches = settings.batch.accumulate / order.steps_per_epoch
    return Forecast(
        queries=len(data.queries),
        batch=settings.batch.size,
        inputs=found.rows,
        steps=found.steps,
        epochs=found.steps * batches,
        device=name_device(choose_device(settings.device)),
        processes=processes.count,
        one_copy=shares_weights(settings, found),
        pass_tokens=largest_pass(settings, found),
        memory=plan_memory(settings, found),
        opening=opened_bytes(settings, found),
        cache=None if cache is None else replace(cache, entries=()),
        measured=measured,
        remedies=remedies,
    )
