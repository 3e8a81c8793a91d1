"""The training loop: one visible step after another, stoppable between any two."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from puma_cli.config.settings import DistillSettings
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.distillation.log import TrainingLog
from puma_cli.distillation.meter import Meter
from puma_cli.distillation.objective import Objective
from puma_cli.distillation.optimizer import learning_rate, set_learning_rate
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.state import Progress, save_state
from puma_cli.distillation.step import Outcome, Prepared, Step
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.distillation.trackers import tagged
from puma_cli.distillation.validation import RETENTION, STUDENT, HitRates
from puma_cli.errors import NumericError
from puma_cli.interruption import StopRequest
from puma_cli.losses import batch_accuracy
from puma_cli.models.read_ahead import read_ahead
from puma_cli.progress import Reporter

LOG_EVERY = 10


@dataclass
class Training:
    """Everything a loop needs; `progress` moves, the rest stays.

    Args:
        gradients: computes those of a batch.
        trained: the module whose parameters with gradient are trained.
        folder: where state, best and last weights go.
        log: the run's `log.jsonl`.
        validate: returns the student's hit@1 on the validation split, or None if there is no such
            split.
        keep_best: called when a validation was the best so far.
        draw: called after a save, to show what the log says.
        cache: the teacher's embeddings, to be filled before the first step, or None.
        teacher_score: the teacher's mean hit@1 on the same queries [0, 1], where it is known.
    """

    pair: Pair
    objective: Objective
    gradients: Step
    trained: nn.Module
    order: BatchOrder
    examples: Examples
    optimizer: Any
    accelerator: Any
    settings: DistillSettings
    steps: int
    folder: Path
    log: TrainingLog
    validate: Callable[[], HitRates | None]
    keep_best: Callable[[], None]
    draw: Callable[[], None]
    progress: Progress
    cache: TeacherCache | None = None
    teacher_score: float | None = None

    def run(self, reporter: Reporter, stop: StopRequest) -> bool:
        """Train to the last step, or until `stop` is set; return whether the end was reached.

        State is saved after each validation and before an early return.

        Raises:
            NumericError: the loss is not finite.
        """
        began = time.monotonic() - self.progress.seconds
        meter = Meter(self.pair.embedder.device, self.progress.step, self.steps)
        self.pair.model.train()
        for step, shown in read_ahead(range(self.progress.step, self.steps), self._prepared):
            values, watched = self._step(step, shown)
            done = step + 1
            self.progress = replace(self.progress, step=done, seconds=time.monotonic() - began)
            meter.count(len(shown.batch.queries), shown.tokens)
            reporter.step(done, self.steps, values)
            if watched:
                watched |= meter.read(done)
                self._write_log({**values, **watched, "seconds": self.progress.seconds})
            if done % self.settings.train.validate_every == 0 or done == self.steps:
                self._validate(reporter)
                self._save()
                self.draw()
                meter.go_on()
            if stop and done < self.steps:
                self._save()
                return False
        return True

    def _prepared(self, step: int) -> tuple[int, Prepared]:
        epoch, indices = self.order.batch(step)
        return step, self.gradients.prepare(self.examples.batch(indices, epoch))

    def _step(self, step: int, prepared: Prepared) -> tuple[dict[str, float], dict[str, float]]:
        """Take a step; return what every step says, and what the log says besides, if it has it."""
        rate = learning_rate(step, self.steps, self.settings.optimizer)
        set_learning_rate(self.optimizer, rate)
        found = self.gradients.backward(prepared, progress=step / self.steps)
        _check_finite(found.loss, found.terms, step, "loss")
        norm = self.accelerator.clip_grad_norm_(
            self.trained.parameters(), self.settings.optimizer.clip
        )
        values = {"loss": found.loss, **found.terms, "gradient_norm": torch.as_tensor(norm)}
        # A step along such a gradient would ruin the weights that are saved next.
        _check_finite(values["gradient_norm"], found.terms, step, "gradient's norm")
        seen = {name: value.item() for name, value in values.items()} | {"learning_rate": rate}
        # Before the step, which moves a learned temperature.
        watched = self._watched(prepared, found) if self._is_logged(step + 1) else {}
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return seen, watched

    def _is_logged(self, done: int) -> bool:
        return done == 1 or done % LOG_EVERY == 0 or done == self.steps

    def _watched(self, prepared: Prepared, found: Outcome) -> dict[str, float]:
        """Return what the log says of a step beside its loss."""
        labels = found.labels
        accuracy = batch_accuracy(
            found.student.queries,
            found.student.candidates,
            labels.target,
            labels.excluded,
            labels.candidate_modality,
        )
        return {
            **accuracy,
            "hard_negatives": float(prepared.batch.hard_negatives),
            "chunks": float(max(1, len(prepared.chunks))),
            **self.objective.temperatures(self.progress.step / self.steps),
        }

    def _validate(self, reporter: Reporter) -> None:
        found = self.validate()
        step = self.progress.step
        # Without validation data the latest weights are the best known.
        if found is None or found.mean > self.progress.best_score:
            best = self.progress.best_score if found is None else found.mean
            self.progress = replace(self.progress, best_step=step, best_score=best)
            self.keep_best()
        if found is not None:
            values = found.named(STUDENT)
            if self.teacher_score:
                values[RETENTION] = found.mean / self.teacher_score
            reporter.note(
                f"step {step}: validation hit@1 {100 * found.mean:.1f} "
                f"(best {100 * self.progress.best_score:.1f} at step {self.progress.best_step})"
            )
            self._write_log(values)

    def _save(self) -> None:
        save_state(self.folder, self.trained, self.optimizer, self.progress)

    def _write_log(self, values: dict[str, float]) -> None:
        self.log.append(self.progress.step, values)
        self.accelerator.log(tagged(values), step=self.progress.step)


def _check_finite(value: Tensor, terms: dict[str, Tensor], step: int, name: str) -> None:
    if not math.isfinite(value.item()):
        values = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
        raise NumericError(
            f"The {name} is {value.item()} at step {step + 1}.",
            cause=f"The loss's terms: {values}.",
            hint="Start again with a lower optimizer.learning_rate, or with --dtype float32.",
        )
