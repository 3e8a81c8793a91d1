"""The training loop: one visible step after another, stoppable between any two."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from torch import Tensor, nn

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.distillation.gradients import average_gradients, clip_gradients
from puma_cli.distillation.log import TrainingLog
from puma_cli.distillation.meter import Meter
from puma_cli.distillation.objective import Objective
from puma_cli.distillation.optimizer import learning_rate, set_learning_rate
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.state import Progress, StateFolder
from puma_cli.distillation.step import Outcome, Prepared, Step
from puma_cli.distillation.stored_teacher import StoredTeacher
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.distillation.trackers import tagged
from puma_cli.distillation.validation import RETENTION, STUDENT, HitRates
from puma_cli.errors import NumericError
from puma_cli.interruption import StopRequest
from puma_cli.losses import batch_accuracy
from puma_cli.models.read_ahead import read_ahead
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import Reporter

LOG_EVERY = 10


@dataclass
class Training:
    """Everything a loop needs; `progress` moves, the rest stays.

    Args:
        gradients: computes those of a batch.
        trained: the module whose parameters with gradient are trained.
        states: where the training's states go.
        log: the run's `log.jsonl`.
        validate: returns the student's hit rates on the validation split, or None if there is no
            such split.
        keep_best: called with the step when a validation was the best so far.
        drop_worse: called with the best step when no state needs the weights of another.
        draw: called after every validation, to show the log as it stands.
        cache: the teacher's embeddings, to be filled before the first step, or None.
        teacher_score: the teacher's mean hit@1 on the validation split [0, 1], if it is known.
        processes: those that share the training.
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
    states: StateFolder
    log: TrainingLog
    validate: Callable[[], HitRates | None]
    keep_best: Callable[[int], None]
    drop_worse: Callable[[int], None]
    draw: Callable[[], None]
    progress: Progress
    cache: TeacherCache | StoredTeacher | None = None
    teacher_score: float | None = None
    processes: Processes = ALONE
    _saved_at: float = field(default=0.0, init=False)

    def run(self, reporter: Reporter, stop: StopRequest) -> bool:
        """Train to the last step, or until `stop` is set; return whether the end was reached.

        State is saved after each validation and before an early return.

        Raises:
            NumericError: the loss is not finite.
        """
        began = time.monotonic() - self.progress.seconds
        self._saved_at = time.monotonic()
        meter = Meter(self.pair.embedder.device, self.progress.step, self.steps)
        with closing(self.take_steps(self.steps, meter)) as steps:
            for values, watched in steps:
                done = self.progress.step + 1
                seconds = time.monotonic() - began
                self.progress = replace(self.progress, step=done, seconds=seconds)
                reporter.step(done, self.steps, values)
                if watched:
                    self._write_log({**values, **watched, **meter.read(done), "seconds": seconds})
                stopping, saving = self._asked(stop)
                if done % self.settings.train.validate_every == 0 or done == self.steps:
                    self._validate(reporter)
                    self._save()
                    self.draw()
                    meter.go_on()
                elif saving or stopping:
                    self._save()
                    meter.go_on()
                if stopping and done < self.steps:
                    return False
        return True

    def take_steps(
        self, last: int, meter: Meter
    ) -> Generator[tuple[dict[str, float], dict[str, float]], None, None]:
        """Take the steps from `progress` to `last`; nothing is saved, logged or validated.

        Yields:
            what every step says, and what the log says besides where it has a line.

        Raises:
            NumericError: the loss is not finite.
        """
        self.pair.model.train()
        each, first = self.settings.batch.accumulate, self.progress.step
        with closing(read_ahead(range(first * each, last * each), self._prepared)) as batches:
            for step in range(first, last):
                yield self._step(step, islice(batches, each), meter)

    def _prepared(self, number: int) -> Prepared:
        epoch, indices = self.order.batch(number)
        return self.gradients.prepare(self.examples.batch(indices, epoch))

    def _asked(self, stop: StopRequest) -> tuple[bool, bool]:
        """Tell whether to stop and whether to save, the same in all processes."""
        train, main = self.settings.train, self.processes.is_main
        overdue = train.save_minutes is not None and (
            time.monotonic() - self._saved_at > 60 * train.save_minutes
        )
        due = train.save_every is not None and self.progress.step % train.save_every == 0
        number, stopping, saving = self.processes.most(
            stop.signal or 0, bool(stop), due or (main and overdue)
        )
        stop.signal = number or None
        return bool(stopping), bool(saving)

    def _step(
        self, step: int, batches: Iterable[Prepared], meter: Meter
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Take a step; return what every step says, and what the log says besides, if it has it."""
        rate = learning_rate(step, self.steps, self.settings.optimizer)
        set_learning_rate(self.optimizer, rate)
        if self.settings.train.fade_head:
            self.pair.fade_head((step + 1) / self.steps)
        found = [self._accumulate(step, prepared) for prepared in batches]
        trained = list(self.trained.parameters())
        average_gradients(trained, self.processes)
        norm = clip_gradients(trained, self.settings.optimizer.clip)
        prepared, last = found[-1]
        # A step along such a gradient would ruin the weights that are saved next.
        self._check(norm, [batch for batch, _ in found], last.terms, step, "gradient's norm")
        outcomes = [outcome for _, outcome in found]
        values = {"loss": _mean([each.loss for each in outcomes])}
        values |= {name: _mean([each.terms[name] for each in outcomes]) for name in last.terms}
        seen = values | {"gradient_norm": norm.item(), "learning_rate": rate}
        # Before the step, which moves a learned temperature.
        watched = self._watched(prepared, last) if self._is_logged(step + 1) else {}
        self._check_limit(values["loss"], prepared, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        pairs = sum(len(batch.batch.queries) for batch, _ in found)
        # Inputs are dealt out evenly: what one process reads stands for all.
        tokens = sum(batch.tokens for batch, _ in found) * self.processes.count
        meter.count(pairs, tokens)
        return seen, watched

    def _accumulate(self, step: int, prepared: Prepared) -> tuple[Prepared, Outcome]:
        share = 1 / self.settings.batch.accumulate
        found = self.gradients.backward(prepared, step / self.steps, share)
        self._check(found.loss, [prepared], found.terms, step, "loss")
        return prepared, found

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
            "left_out": float(found.left_out),
            "chunks": float(max(1, len(prepared.chunks))),
            **({"head_share": self.pair.head_share} if self.settings.train.fade_head else {}),
            **self.objective.temperatures(self.progress.step / self.steps),
        }

    def _validate(self, reporter: Reporter) -> None:
        found = self.validate()
        step = self.progress.step
        # What a head that is to go still helps with is no score of the student's.
        counts = not (self.settings.train.fade_head and self.pair.head_share > 0)
        # Without validation data the latest weights are the best known.
        if counts and (found is None or found.mean > self.progress.best_score):
            best = self.progress.best_score if found is None else found.mean
            self.progress = replace(self.progress, best_step=step, best_score=best)
            self.keep_best(step)
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
        self.states.save(self.progress)
        self.drop_worse(self.progress.best_step)
        self._saved_at = time.monotonic()

    def _write_log(self, values: dict[str, float]) -> None:
        self.log.append(self.progress.step, values)
        self.accelerator.log(tagged(values), step=self.progress.step)

    def _check(
        self,
        value: Tensor,
        batches: Sequence[Prepared],
        terms: dict[str, Tensor],
        step: int,
        name: str,
    ) -> None:
        if math.isfinite(value.item()):
            return
        values = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
        raise NumericError(
            f"The {name} is {value.item()} at step {step + 1}.",
            cause=f"The loss's terms: {values}. {self._note_batch(step, batches)}",
            hint="Go on from the last state with --resume and --dtype float32, or start again with "
            "a lower optimizer.learning_rate.",
        )

    def _check_limit(self, loss: float, prepared: Prepared, step: int) -> None:
        """Refuse a loss that has left all that it began with, before it is stepped along."""
        first = self.progress.first_loss
        if first is None:
            self.progress = replace(self.progress, first_loss=loss)
        elif abs(loss) > self.settings.train.loss_limit * abs(first):
            raise NumericError(
                f"The loss is {loss:g} at step {step + 1}, and was {first:g} at the first.",
                cause=f"train.loss_limit is {self.settings.train.loss_limit:g} times the first. "
                f"{self._note_batch(step, [prepared])}",
                hint="Start again with a lower optimizer.learning_rate, or raise the limit.",
            )

    def _note_batch(self, step: int, batches: Sequence[Prepared]) -> str:
        """Write down which examples met in a step that failed, and say where."""
        path = self.log.path.with_name("failed_batch.json")
        names = [batch.batch.names for batch in batches]
        if self.processes.is_main:
            with explained_writes(path):
                path.write_text(json.dumps({"step": step + 1, "inputs": names}), encoding="utf-8")
        return f"The batch's ids are in {path}."


def _mean(values: Sequence[Tensor]) -> float:
    return sum(value.item() for value in values) / len(values)
