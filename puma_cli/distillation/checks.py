"""Settings of a training that contradict one another or what they name."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.config.settings import DISTILLING, NO_TEACHER, DistillSettings
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.stored_teacher import is_stored
from puma_cli.errors import ConfigError
from puma_cli.models.embedder import Embedder

# Terms that compare a student's embeddings with a teacher's, entry by entry.
PROJECTED = ("mse", "cosine", "bank")


def check_training(settings: DistillSettings) -> None:
    """Refuse settings that do not go together.

    Raises:
        ConfigError: names the settings and what to change.
    """
    if settings.loss.needs_teacher and settings.teacher == NO_TEACHER:
        raise ConfigError(
            "The loss compares with a teacher, but the teacher is 'none'.",
            hint="Give --teacher MODEL, or leave out what compares with it: "
            f"{_named(DISTILLING)}, loss.false_negative_margin.",
        )
    if settings.teacher != NO_TEACHER and not settings.loss.needs_teacher:
        raise ConfigError(
            f"The teacher {settings.teacher!r} has no part in the loss.",
            cause=f"The weights {_named(DISTILLING)} are 0.",
            hint="Give one a weight (the paper: loss.mse 0.005), or leave the teacher out.",
        )
    stored = is_stored(settings.teacher)
    if stored and settings.loss.hints:
        raise ConfigError(
            f"loss.hints compares inner layers, and {settings.teacher} holds embeddings alone.",
            hint="Leave it out, or give the teacher itself.",
        )
    if (settings.train.cache_teacher or stored) and settings.batch.augment:
        raise ConfigError(
            "batch.augment is set, and the teacher has seen every image once, as it is.",
            cause="No random view is seen twice, so there is nothing to keep.",
            hint="Leave one of the two out: --set batch.augment=false."
            if stored
            else "Leave out batch.augment or train.cache_teacher.",
        )
    if settings.batch.neighbours and (settings.batch.weights or settings.batch.balance != 1):
        raise ConfigError(
            "batch.neighbours is set beside batch.weights or batch.balance.",
            cause="Neighbours meet in a batch when every query comes once an epoch.",
            hint="Leave one of them out.",
        )
    if settings.loss.bank and not (settings.train.cache_teacher or stored):
        raise ConfigError(
            "loss.bank is set, but no embeddings of the teacher are kept.",
            hint="Set train.cache_teacher=true too.",
        )
    if settings.loss.projection != "none" and not any(
        getattr(settings.loss, name) for name in PROJECTED
    ):
        raise ConfigError(
            f"loss.projection is {settings.loss.projection}, but nothing is projected.",
            cause=f"It comes before {_named(PROJECTED)}, and they are 0.",
        )
    if settings.train.cache_dir and not settings.train.cache_teacher:
        raise ConfigError(
            f"train.cache_dir is {settings.train.cache_dir!r}, but nothing is cached.",
            hint="Set train.cache_teacher=true too, or leave the folder out.",
        )


def check_widths(settings: DistillSettings, student: int, teacher: int) -> None:
    """Refuse terms that compare vectors of unequal lengths.

    Raises:
        ConfigError: names the lengths and what to change.
    """
    compared = ("hints",) if settings.loss.projection != "none" else (*PROJECTED, "hints")
    wrong = [name for name in compared if getattr(settings.loss, name)]
    if student != teacher and wrong:
        raise ConfigError(
            f"The student's embeddings have {student} dimensions, the teacher's {teacher}.",
            cause=f"{_named(wrong)} would compare them entry by entry.",
            hint="Set loss.projection=learned, which maps the ones to the others, or compare "
            "scores only: loss.similarity, loss.gram. Hints need equal widths.",
        )


def check_fading(student: Embedder) -> None:
    """Refuse to lead a head to the identity where there is none, or where it changes the length.

    Raises:
        ConfigError: says what the student has.
    """
    if student.head is None:
        raise ConfigError(
            "train.fade_head is set, but the student has no head.",
            hint="puma prune --bridge --data DATA makes a cut that has one.",
        )
    if student.head.outputs != student.width:
        raise ConfigError(
            f"The student's head makes {student.head.outputs} numbers of {student.width}.",
            cause="Led to the identity, it would change the length of the embeddings.",
            hint="Leave train.fade_head out.",
        )


def check_shardable(pair: Pair) -> None:
    """Refuse to shard a student beside a teacher of its own.

    Raises:
        ConfigError: says how the teacher leaves the memory.
    """
    if pair.teacher is not None and not pair.shared:
        raise ConfigError(
            "train.strategy is fsdp2, and the teacher is a model of its own.",
            cause="Every process would hold it whole, which the strategy is there to avoid.",
            hint="Set train.cache_teacher=true: it reads everything once and leaves the memory.",
        )


def is_mixed(dtype: str, device: str) -> bool:
    """Tell whether to train under bfloat16 autocast; weights are float32 in either case."""
    if dtype == "float16" or (dtype == "bfloat16" and device != "cuda"):
        raise ConfigError(
            f"Training with --dtype {dtype} on {device} is not possible.",
            cause="Weights are trained in float32, on CUDA under bfloat16 autocast if you like.",
            hint="Use --dtype auto or float32; train.save_dtype says what is written.",
        )
    return device == "cuda" and dtype != "float32"


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"loss.{name}" for name in names)
