"""What a training asks its teacher once, before the first step."""

from __future__ import annotations

from functools import cache

from puma_cli.distillation.loop import Training
from puma_cli.distillation.running import open_teacher
from puma_cli.distillation.stored_teacher import StoredTeacher
from puma_cli.distillation.validation import HitRates, Validation, teacher_score
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.progress import Reporter


def ask_teacher(
    training: Training, validation: Validation, reporter: Reporter, stop: StopRequest
) -> bool:
    """Fill the teacher's cache, if there is one, and score the teacher, if that is asked for.

    Returns:
        False if a stop was asked for before the cache was full.
    """
    settings = training.settings

    # A cached teacher is opened for both tasks together, and leaves the memory after them.
    @cache
    def opened() -> Embedder:
        return open_teacher(settings)

    if isinstance(training.cache, StoredTeacher):
        reporter.note(
            f"The teacher's embeddings of {len(training.cache):,} inputs lie in {settings.teacher}."
        )
    elif training.cache is not None:
        reporter.note(f"The teacher reads {len(training.cache):,} distinct inputs, once.")
        if not training.cache.fill(opened, reporter, stop, training.processes):
            return False

    def judge() -> HitRates:
        if training.cache is not None:
            return validation.score(opened())
        with training.pair.teaching() as teacher:
            return validation.score(teacher)

    # There is no model to score in a folder of embeddings.
    model = training.objective.needs_teacher and not isinstance(training.cache, StoredTeacher)
    if model and settings.train.validate_teacher and validation:
        training.teacher_score = teacher_score(training.log, judge, training.processes)
        reporter.note(f"The teacher's validation hit@1 is {100 * training.teacher_score:.1f}.")
    return True
