"""Several trainings in a row: each starts from the student of the one before."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.stages import TrainingStage, check_stages
from puma_cli.config.training_settings import FRESH, DistillSettings
from puma_cli.data.training_data import open_training_data
from puma_cli.distillation.checks import check_head, check_training, check_widths
from puma_cli.distillation.distill import DistillResult, result_of, train
from puma_cli.distillation.objective import Objective
from puma_cli.distillation.stage_folders import StagedFolder
from puma_cli.distillation.stored_teacher import teacher_width
from puma_cli.distillation.trackers import choose_trackers
from puma_cli.errors import PumaError
from puma_cli.interruption import Stopped, StopRequest
from puma_cli.models.embedder_settings import settings_for
from puma_cli.processes import Processes, join
from puma_cli.progress import SILENT, Reporter


@dataclass(frozen=True)
class StagesResult:
    """What several trainings in a row came to.

    Args:
        folder: the output folder; a checkpoint once `finished`.
        stages: what each stage came to that has begun, by name, in order.
        finished: whether the last stage reached its end.
    """

    folder: Path
    stages: dict[str, DistillResult]
    finished: bool

    @property
    def steps(self) -> int:
        """Optimizer steps done, over all stages."""
        return sum(result.steps for result in self.stages.values())

    @property
    def seconds(self) -> float:
        """Time spent training, over all stages and sessions."""
        return sum(result.seconds for result in self.stages.values())


def distill_stages(stages: Sequence[TrainingStage], reporter: Reporter = SILENT) -> StagesResult:
    """Train stage after stage, each from the best weights of the one before.

    All write below the output folder: the last stage ends as the folder itself, the others stay in
    `stages/NAME/` as checkpoints of their own. Ctrl-C and SIGTERM stop between two steps, with
    state saved. With `resume`, finished stages are skipped and an unfinished one goes on from its
    state; one that has not begun takes the settings that are given now.

    Raises:
        ConfigError: settings contradict one another, or those of a stage that has begun.
        DataError: a stage's training data are missing or broken.
        OutputError: the output folder is taken.
        Stopped: a signal ended a stage early.
    """
    check_stages(stages)
    for stage in stages:
        with _named(stage.name):
            _check(stage.settings)
    asked = stages[0].settings
    processes = join(asked.device)
    if not processes.is_main:
        reporter = SILENT
    folder = StagedFolder(stages)
    finished = processes.first(folder.finished)
    if not asked.resume and len(stages) > 1:
        reporter.note("Looking whether the later stages will find what they need.")
        processes.first(lambda: _look_ahead(stages[1:]))
    results: dict[str, DistillResult] = {}
    stop = StopRequest(asked.stop_after)
    with ExitStack() as listening:
        for number, (stage, progress) in enumerate(zip(stages, finished, strict=True)):
            label = f"[{number + 1}/{len(stages)}] Stage {stage.name}"
            if progress is not None:
                reporter.note(f"{label}: done before, in {folder.place(number)}")
                results[stage.name] = result_of(folder.place(number), progress, finished=True)
                continue
            if results and _is_stopped(processes, stop, next(reversed(results)), folder):
                break
            reporter.note(label)
            with _named(stage.name):
                found = train(folder.settings(number), folder.parts[number], reporter, stop)
            results[stage.name] = found
            if not found.finished:
                break
            # From here on there is always something to go on from: signals wait for a step's end.
            listening.enter_context(stop)
            _free_memory()
    done = len(results) == len(stages) and all(each.finished for each in results.values())
    return StagesResult(folder.root, results, done)


def _check(settings: DistillSettings) -> None:
    check_settings(settings)
    Objective(settings.loss)
    check_training(settings)
    choose_trackers(settings.train.trackers)


def _look_ahead(stages: Sequence[TrainingStage]) -> None:
    """Find now what would end a later stage at its start, days into the run."""
    for stage in stages:
        settings = stage.settings
        with _named(stage.name):
            open_training_data(settings, SILENT)
            if settings.train.fade_head:
                # No earlier stage fades the head: what there is to fade, the first student has.
                fresh = settings.student == FRESH
                check_head(None if fresh else settings_for(resolve(settings.student)).head)
            if not settings.loss.needs_teacher:
                continue
            teacher = teacher_width(settings.teacher)
            if settings.student != FRESH:
                student = settings_for(resolve(settings.student)).dimension
                check_widths(settings, student, teacher)


def _is_stopped(processes: Processes, stop: StopRequest, before: str, folder: StagedFolder) -> bool:
    """Tell whether the time is up between two stages, the same in all processes.

    Raises:
        Stopped: a signal has come.
    """
    number, stopping = processes.most(stop.signal or 0, bool(stop))
    stop.signal = number or None
    if stop.signal is not None:
        raise Stopped(
            f"Stopped after stage {before}, which is finished.",
            exit_code=stop.exit_code,
            hint=f"Go on with the same command and --resume; all is in {folder.root}.",
        )
    return bool(stopping)


@contextmanager
def _named(stage: str) -> Iterator[None]:
    """Let errors say which stage they are about."""
    try:
        yield
    except PumaError as error:
        error.problem = f"Stage {stage}: {error.problem}"
        raise


def _free_memory() -> None:
    """Give back what a finished stage held, before the next one's models come."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
