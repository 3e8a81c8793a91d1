"""What the teacher's cache will hold, and what of it is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from puma_cli.checkpoint.source import resolve
from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.distillation.forecast.memory import cached_row, hint_pairs
from puma_cli.distillation.forecast.survey import Survey
from puma_cli.distillation.running import teacher_dtype
from puma_cli.distillation.teacher_cache import TeacherCache, identify_teacher, planned_inputs
from puma_cli.encoding.identity import KEY_BYTES
from puma_cli.models.devices import DTYPES
from puma_cli.models.inputs import Input


@dataclass(frozen=True)
class CachePlan:
    """The teacher's cache of a training.

    Args:
        inputs: distinct inputs that it will hold.
        bytes: what they take on disk, but for the headers of a few files.
        missing: those that no file holds yet.
        missing_bytes: what these will take.
        entries: the missing inputs themselves.
    """

    inputs: int
    bytes: int
    missing: int
    missing_bytes: int
    entries: Sequence[Input] = field(default=(), repr=False)


def plan_cache(
    settings: DistillSettings, found: Survey, order: BatchOrder, examples: Examples
) -> CachePlan | None:
    """Return what the cache of a training will hold, or None without one; nothing is written."""
    if found.teacher is None or not settings.train.cache_teacher:
        return None
    inputs = planned_inputs(order, examples, found.steps * settings.batch.accumulate)
    missing = inputs
    dtype = DTYPES[settings.train.cache_dtype]
    if settings.train.cache_dir:
        teacher = identify_teacher(
            resolve(settings.teacher),
            teacher_dtype(settings),
            settings.batch.max_pixels,
        )
        inner = hint_pairs(settings, found)[1]
        folder = Path(settings.train.cache_dir)
        missing = TeacherCache(folder, inputs, teacher, inner, dtype, verify=False).missing()
    row = cached_row(settings, found) * dtype.itemsize + KEY_BYTES
    sizes = len(inputs) * row, len(missing) * row
    return CachePlan(len(inputs), sizes[0], len(missing), sizes[1], missing)
