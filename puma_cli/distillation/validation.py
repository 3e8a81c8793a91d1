"""What a training knows of its quality: hit@1 on part of the validation split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.retrieval_data import RetrievalData
from puma_cli.distillation.log import TrainingLog, read_log
from puma_cli.evaluation.encode import Together
from puma_cli.evaluation.scoring import evaluate_embedder
from puma_cli.models.embedder import Embedder
from puma_cli.processes import ALONE, Processes

STUDENT, TEACHER, RETENTION = "validation_hit@1", "teacher_hit@1", "retention"


@dataclass(frozen=True)
class HitRates:
    """Hit@1 of a model.

    Args:
        mean: the plain mean over tasks [0, 1].
        tasks: of each task, by its name.
    """

    mean: float
    tasks: dict[str, float]

    def named(self, name: str) -> dict[str, float]:
        """Return them as the log has them: the mean as `name`, each task's as `name task`."""
        return {name: self.mean, **{f"{name} {task}": hit for task, hit in self.tasks.items()}}


class Validation:
    """Scores embedders on the same queries of each task, in the task's own pool.

    Args:
        data: queries of the split `val`, or None without any.
        settings: how many queries of which tasks.
        processes: those that share the work.
    """

    def __init__(
        self, data: RetrievalData | None, settings: DistillSettings, processes: Processes = ALONE
    ) -> None:
        self._data, self._tasks, self._processes = data, settings.tasks, processes
        self._limit, self._batch = settings.train.validation_limit, settings.train.encode_batch

    def __bool__(self) -> bool:
        """Whether there is a validation at all."""
        return bool(self._limit) and self._data is not None

    def score(self, embedder: Embedder) -> HitRates:
        """Return the hit rates of an embedder, which stays in its mode.

        Raises:
            DataError: the validation split is broken.
            NumericError: an embedding is not finite.
        """
        assert self._data is not None
        scores = evaluate_embedder(
            Together(embedder, self._processes),
            self._data,
            split="val",
            tasks=self._tasks,
            pools=("local",),
            limit=self._limit,
            batch_size=self._batch,
        )
        tasks = {row.task: row.score("hit@1") for row in scores.of_pool("local")}
        found = HitRates(float(scores.mean("hit@1", pool="local")), tasks)
        # One says what all go by, should their last digits differ.
        return self._processes.gather(found)[0]


def teacher_score(
    log: TrainingLog, judge: Callable[[], HitRates], processes: Processes = ALONE
) -> float:
    """Return the teacher's mean hit@1, as the log has it from an earlier session, or judged now.

    Args:
        log: gets what is judged, as of step 0.
        judge: scores the teacher.
    """
    known = processes.first(lambda: [row[TEACHER] for row in read_log(log.path) if TEACHER in row])
    if known:
        return known[0]
    found = judge()
    log.append(0, found.named(TEACHER))
    return found.mean
