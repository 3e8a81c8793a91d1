"""The training loop: one visible step after another, stoppable between any two."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.config.settings import DistillSettings
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import ContrastiveBatch, Examples
from puma_cli.distillation.objective import Embeddings, Labels, Objective
from puma_cli.distillation.optimizer import learning_rate, set_learning_rate
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.state import Progress, save_state
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.errors import NumericError
from puma_cli.interruption import StopRequest
from puma_cli.losses import batch_accuracy
from puma_cli.models.processing import Batch
from puma_cli.models.read_ahead import read_ahead
from puma_cli.progress import Reporter

LOG_EVERY = 10


@dataclass(frozen=True)
class Shown:
    """What a step shows the models: the examples, and the tensors of both sides on the CPU."""

    batch: ContrastiveBatch
    queries: Batch
    candidates: Batch


@dataclass
class Training:
    """Everything a loop needs; `progress` moves, the rest stays.

    Args:
        trained: the module whose parameters with gradient are trained.
        folder: where state, best and last weights go.
        log: path of the run's `log.jsonl`.
        validate: returns the student's mean hit@1 [0, 1] on the validation split, or None if
            there is no such split.
        keep_best: called when a validation was the best so far.
        cache: the teacher's embeddings, filled, or None to ask the teacher at every step.
    """

    pair: Pair
    objective: Objective
    trained: nn.Module
    order: BatchOrder
    examples: Examples
    optimizer: Any
    accelerator: Any
    settings: DistillSettings
    steps: int
    folder: Path
    log: Path
    validate: Callable[[], float | None]
    keep_best: Callable[[], None]
    progress: Progress
    cache: TeacherCache | None = None

    def run(self, reporter: Reporter, stop: StopRequest) -> bool:
        """Train to the last step, or until `stop` is set; return whether the end was reached.

        State is saved after each validation and before an early return.

        Raises:
            NumericError: the loss is not finite.
        """
        began = time.monotonic() - self.progress.seconds
        self.pair.model.train()
        for step, shown in read_ahead(range(self.progress.step, self.steps), self._prepared):
            values = self._step(step, shown)
            done = step + 1
            self.progress = replace(self.progress, step=done, seconds=time.monotonic() - began)
            reporter.step(done, self.steps, values)
            if self._is_logged(done):
                self._write_log({"step": done, **values, "seconds": self.progress.seconds})
            if done % self.settings.train.validate_every == 0 or done == self.steps:
                self._validate(reporter)
                self._save()
            if stop and done < self.steps:
                self._save()
                return False
        return True

    def _prepared(self, step: int) -> tuple[int, Shown]:
        epoch, indices = self.order.batch(step)
        batch = self.examples.batch(indices, epoch)
        collate = self.pair.embedder.collate
        return step, Shown(batch, collate(batch.queries), collate(batch.candidates))

    def _step(self, step: int, shown: Shown) -> dict[str, float]:
        batch, device = shown.batch, self.pair.embedder.device
        rate = learning_rate(step, self.steps, self.settings.optimizer)
        set_learning_rate(self.optimizer, rate)
        with self.accelerator.autocast():
            student, teacher = self.pair.embed(
                shown.queries.to(device),
                shown.candidates.to(device),
                with_teacher=self.objective.needs_teacher and self.cache is None,
            )
        if self.cache is not None:
            teacher = Embeddings(
                self.cache.vectors(batch.queries).to(device),
                self.cache.vectors(batch.candidates).to(device),
            )
        labels = Labels(
            batch.target, batch.excluded, batch.query_modality, batch.candidate_modality
        ).to(device)
        loss, terms = self.objective(student, teacher, labels, progress=step / self.steps)
        _check_finite(loss, terms, step, "loss")
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(
            self.trained.parameters(), self.settings.optimizer.clip
        )
        values = {"loss": loss, **terms, "gradient_norm": torch.as_tensor(norm)}
        # A step along such a gradient would ruin the weights that are saved next.
        _check_finite(values["gradient_norm"], terms, step, "gradient's norm")
        seen = {name: value.item() for name, value in values.items()} | {"learning_rate": rate}
        if self._is_logged(step + 1):
            seen |= self._watched(batch, student, labels)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return seen

    def _is_logged(self, done: int) -> bool:
        return done == 1 or done % LOG_EVERY == 0 or done == self.steps

    def _watched(
        self, batch: ContrastiveBatch, student: Embeddings, labels: Labels
    ) -> dict[str, float]:
        """Return what the log says of a step beside its loss."""
        found = batch_accuracy(
            student.queries,
            student.candidates,
            labels.target,
            labels.excluded,
            labels.candidate_modality,
        )
        return {
            **found,
            "hard_negatives": float(batch.hard_negatives),
            **self.objective.temperatures(self.progress.step / self.steps),
        }

    def _validate(self, reporter: Reporter) -> None:
        score = self.validate()
        step = self.progress.step
        # Without validation data the latest weights are the best known.
        if score is None or score > self.progress.best_score:
            best = self.progress.best_score if score is None else score
            self.progress = replace(self.progress, best_step=step, best_score=best)
            self.keep_best()
        if score is not None:
            reporter.note(
                f"step {step}: validation hit@1 {100 * score:.1f} "
                f"(best {100 * self.progress.best_score:.1f} at step {self.progress.best_step})"
            )
            self._write_log({"step": step, "validation_hit@1": score})

    def _save(self) -> None:
        save_state(self.folder, self.trained, self.optimizer, self.progress)

    def _write_log(self, values: dict[str, float]) -> None:
        with explained_writes(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def _check_finite(value: Tensor, terms: dict[str, Tensor], step: int, name: str) -> None:
    if not math.isfinite(value.item()):
        values = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
        raise NumericError(
            f"The {name} is {value.item()} at step {step + 1}.",
            cause=f"The loss's terms: {values}.",
            hint="Start again with a lower optimizer.learning_rate, or with --dtype float32.",
        )
