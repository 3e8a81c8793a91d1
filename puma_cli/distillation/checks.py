"""Settings of a training that contradict one another or what they name."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.config.lora_settings import NF4, UNQUANTIZED, LoraSettings
from puma_cli.config.training_settings import (
    DISTILLING,
    FRESH,
    NO_TEACHER,
    DistillSettings,
    LossSettings,
    TrainSettings,
)
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.stored_teacher import is_stored, reads_once
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
            f"{_named(DISTILLING)}, loss.false_negative_margin, loss.frozen_candidates.",
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
    if reads_once(settings) and settings.batch.augment:
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
    if settings.loss.bank and not reads_once(settings):
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
    if settings.loss.frozen_candidates:
        _check_frozen_candidates(settings)
    _check_what_trains(settings)


def without_effect(settings: DistillSettings) -> list[str]:
    """Return a sentence for each value that was chosen, but that nothing will ask for.

    They are no errors: a recipe's values stay when the part that they belong to is switched off.
    """
    loss, train, teacher = settings.loss, settings.train, settings.teacher
    opened = teacher != NO_TEACHER and not is_stored(teacher)
    plain, usual = LossSettings(), TrainSettings()
    needs = (
        ("loss.hint_depths", loss.hint_depths != plain.hint_depths, loss.hints, "loss.hints"),
        ("loss.bank_size", loss.bank_size != plain.bank_size, loss.bank, "loss.bank"),
        (
            "train.cache_dtype",
            train.cache_dtype != usual.cache_dtype,
            opened and train.cache_teacher,
            "a teacher that train.cache_teacher keeps",
        ),
        (
            "train.teacher_dtype",
            train.teacher_dtype != usual.teacher_dtype,
            opened,
            "a model as teacher",
        ),
    )
    return [
        f"{name} has no effect without {partner}."
        for name, chosen, partnered, partner in needs
        if chosen and not partnered
    ]


def _check_frozen_candidates(settings: DistillSettings) -> None:
    """Refuse what asks for candidates of the student's own."""
    loss, train = settings.loss, settings.train
    reasons = (
        (
            not reads_once(settings),
            "no embeddings of the teacher are kept.",
            "Set train.cache_teacher=true too.",
        ),
        (
            bool(loss.hints) or loss.projection != "none",
            "loss.hints or loss.projection would train candidates of the student's own.",
            "Leave them out.",
        ),
        (
            settings.batch.bad_images == "skip",
            "the student does not read the candidates' images, so it cannot leave any out.",
            "Set batch.bad_images=error.",
        ),
        (
            bool(train.validation_limit),
            "a validation would score candidates of the student's own.",
            "Set train.validation_limit=0, which keeps the last weights, and score the result with "
            "puma eval --query-model STUDENT --candidate-model TEACHER.",
        ),
    )
    for wrong, cause, hint in reasons:
        if wrong:
            raise ConfigError(f"loss.frozen_candidates is set, but {cause}", hint=hint)


def _check_what_trains(settings: DistillSettings) -> None:
    """Refuse settings that would say something else trains than does."""
    lora, train = settings.lora, settings.train
    if lora.rank == 0:
        plain = LoraSettings()
        for name in ("targets", "quantize", "base_dtype", "keep_adapter"):
            value = getattr(lora, name)
            if value != getattr(plain, name):
                shown = ",".join(value) if isinstance(value, tuple) else value
                raise ConfigError(
                    f"lora.{name} is {shown}, but there are no adapters: lora.rank is 0.",
                    cause="At rank 0 the weights themselves train.",
                    hint=f"Set lora.rank too, such as 64, or leave lora.{name} out.",
                )
        if train.train_embeddings and train.train_embed_token:
            raise ConfigError(
                "train.train_embeddings and train.train_embed_token are both set.",
                cause="The table that trains as a whole has that row among its own.",
                hint="Leave one of the two out.",
            )
        return
    if train.train_embeddings:
        raise ConfigError(
            f"train.train_embeddings is set beside adapters: lora.rank is {lora.rank}.",
            cause="With adapters, the weights that are there stay as they are.",
            hint="Set train.train_embed_token=true for the one row that embeddings are read at, or "
            "lora.rank=0 to train the weights themselves.",
        )
    if not train.freeze_vision:
        raise ConfigError(
            f"train.freeze_vision is false beside adapters: lora.rank is {lora.rank}.",
            cause="Adapters are for the decoder; with them, the vision tower stays as it is.",
            hint="Leave it out, or set lora.rank=0 to train the weights themselves.",
        )
    if lora.keep_adapter and settings.student == FRESH:
        raise ConfigError(
            f"lora.keep_adapter is set for the student {FRESH!r}.",
            cause="An adapter is of use beside the weights it was trained over, which do not stay.",
            hint="Leave it out: the result has the adapters merged in.",
        )
    if lora.quantize != UNQUANTIZED:
        _check_quantised(settings)
    held = lora.quantize if lora.quantize != UNQUANTIZED else lora.base_dtype
    if train.strategy == "fsdp2" and held in (NF4, "bfloat16"):
        raise ConfigError(
            f"train.strategy is fsdp2, and the weights below the adapters are in {held}.",
            cause="A layer is divided among the processes in one number format, and adapters are "
            "in float32.",
            hint="Set train.strategy=ddp, or lora.quantize=none and lora.base_dtype=float32.",
        )


def _check_quantised(settings: DistillSettings) -> None:
    if settings.loss.needs_teacher and not reads_once(settings):
        raise ConfigError(
            f"lora.quantize is {settings.lora.quantize}, and the teacher is not cached.",
            cause="One copy would make the teacher a quantised model, worse than the one to learn "
            "from; a second copy would take more memory than quantising saves.",
            hint="Set train.cache_teacher=true: it reads everything once, unquantised, before the "
            "first step, and leaves the memory.",
        )


def check_widths(settings: DistillSettings, student: int, teacher: int) -> None:
    """Refuse terms that compare vectors of unequal lengths.

    Raises:
        ConfigError: names the lengths and what to change.
    """
    compared = ("hints",) if settings.loss.projection != "none" else (*PROJECTED, "hints")
    compared = (*compared, "frozen_candidates")
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
    check_head(student.head)
    assert student.head is not None
    if student.head.outputs != student.width:
        raise ConfigError(
            f"The student's head makes {student.head.outputs} numbers of {student.width}.",
            cause="Led to the identity, it would change the length of the embeddings.",
            hint="Leave train.fade_head out.",
        )


def check_head(head: object | None) -> None:
    """Refuse to fade a head where there is none.

    Raises:
        ConfigError: says where heads come from.
    """
    if head is None:
        raise ConfigError(
            "train.fade_head is set, but the student has no head.",
            hint="puma prune --bridge --data DATA makes a cut that has one.",
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
