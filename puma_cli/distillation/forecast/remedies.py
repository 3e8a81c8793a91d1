"""What makes a training take less memory, each with what it saves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from puma_cli.config.training_settings import FRESH, DistillSettings
from puma_cli.distillation.checks import check_training
from puma_cli.distillation.forecast.memory import (
    MemoryPlan,
    largest_pass,
    plan_memory,
    shares_weights,
)
from puma_cli.distillation.forecast.survey import Survey
from puma_cli.errors import ConfigError
from puma_cli.report.numbers import size_on_disk

# Rank of adapters that are proposed where all weights train.
RANK = 64
MOST = 3


@dataclass(frozen=True)
class Remedy:
    """A change of settings that takes less memory.

    Args:
        change: what to add to the command.
        effect: what it does, with its numbers.
        saves: bytes of each process, by the estimate.
        resumable: whether a training that has begun may go on with it.
    """

    change: str
    effect: str
    saves: int
    resumable: bool


def find_remedies(settings: DistillSettings, found: Survey) -> list[Remedy]:
    """Return up to three changes that are not in effect yet, what helps most first.

    A smaller contrastive batch is the last resort, as it changes what is learnt.
    """
    before = plan_memory(settings, found)
    known = [each for each in _kept_results(settings, found, before) if each.saves > 0]
    known.sort(key=lambda remedy: -remedy.saves)
    if len(known) < MOST:
        known += [each for each in _last_resorts(settings, found, before) if each.saves > 0]
    return known[:MOST]


def _kept_results(settings: DistillSettings, found: Survey, before: MemoryPlan) -> Iterator[Remedy]:
    """Yield what leaves the batch as it is."""
    train, lora = settings.train, settings.lora
    now = largest_pass(settings, found)
    half = max(1, now // 2)
    chunked = settings.batch.chunk_tokens is not None
    yield _remedy(
        f"--set batch.chunk_tokens={half}",
        f"one pass holds {half:,} tokens, half of the {now:,} of now: activations from about "
        "{activations}" + ("" if chunked else ", for one more pass forward"),
        replace(settings, batch=replace(settings.batch, chunk_tokens=half)),
        found,
        before,
    )
    if not train.checkpoint_activations:
        yield _remedy(
            "--set train.checkpoint_activations=true",
            "activations from about {activations}, for a third more time",
            replace(settings, train=replace(train, checkpoint_activations=True)),
            found,
            before,
        )
    if before.teacher and not settings.batch.augment:
        yield _remedy(
            "--set train.cache_teacher=true",
            f"takes the teacher's {size_on_disk(before.teacher)} off the device, once it has read "
            "everything",
            replace(settings, train=replace(train, cache_teacher=True)),
            found,
            before,
            resumable=False,
        )
    if not lora.rank and settings.student != FRESH:
        adapted = replace(settings, lora=replace(lora, rank=RANK))
        more = ""
        if shares_weights(adapted, found):
            more = "; one copy of the weights then serves student and teacher"
        yield _remedy(
            f"--lora-rank {RANK}",
            "trains adapters: gradients and moments from {moving}" + more,
            adapted,
            found,
            before,
            resumable=False,
        )
    if not (train.freeze_vision or lora.rank):
        yield _remedy(
            "--set train.freeze_vision=true",
            "leaves the vision tower as it is: activations from about {activations}, gradients and "
            "moments from {moving}",
            replace(settings, train=replace(train, freeze_vision=True)),
            found,
            before,
            resumable=False,
        )
    if found.device == "cuda" and not found.mixed:
        yield _remedy(
            "--dtype bfloat16",
            "activations from about {activations}",
            settings,
            replace(found, mixed=True),
            before,
            resumable=False,
        )
    own_teacher = before.teacher and not shares_weights(settings, found)
    if train.strategy != "fsdp2" and found.processes > 1 and not own_teacher:
        yield _remedy(
            "--set train.strategy=fsdp2",
            f"divides the decoder among the {found.processes} processes: weights, gradients and "
            "moments from {weights}",
            replace(settings, train=replace(train, strategy="fsdp2")),
            found,
            before,
        )


def _last_resorts(settings: DistillSettings, found: Survey, before: MemoryPlan) -> Iterator[Remedy]:
    """Yield what changes the result."""
    if settings.lora.rank > 1:
        rank = settings.lora.rank // 2
        yield _remedy(
            f"--lora-rank {rank}",
            "gradients and moments from {moving}, in smaller adapters",
            replace(settings, lora=replace(settings.lora, rank=rank)),
            found,
            before,
            resumable=False,
        )
    size = settings.batch.size // 2
    if size >= 2:
        batches = tuple(batch[: max(1, len(batch) // 2)] for batch in found.batches)
        yield _remedy(
            f"--batch-size {size}",
            "{total} in all, but fewer negatives: scores will differ",
            replace(settings, batch=replace(settings.batch, size=size)),
            replace(found, batches=batches, rows=found.rows // 2),
            before,
            resumable=False,
        )


def _remedy(
    change: str,
    effect: str,
    settings: DistillSettings,
    found: Survey,
    before: MemoryPlan,
    resumable: bool = True,
) -> Remedy:
    if not _go_together(settings):
        # It would be refused: nothing is saved by it.
        return Remedy(change, effect, 0, resumable)
    after = plan_memory(settings, found)
    words: dict[str, Any] = {
        "activations": _from_to(before.activations, after.activations),
        "moving": _from_to(_moving(before), _moving(after)),
        "weights": _from_to(before.student + _moving(before), after.student + _moving(after)),
        "total": _from_to(before.total, after.total),
    }
    return Remedy(change, effect.format(**words), before.total - after.total, resumable)


def _go_together(settings: DistillSettings) -> bool:
    """Tell whether a training accepts these settings beside one another."""
    try:
        check_training(settings)
    except ConfigError:
        return False
    return True


def _moving(plan: MemoryPlan) -> int:
    return plan.gradients + plan.moments


def _from_to(before: int, after: int) -> str:
    return f"{size_on_disk(before)} to {size_on_disk(after)}"
