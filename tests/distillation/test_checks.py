"""Settings that are of no use, though they contradict nothing."""

from pathlib import Path

import pytest

from puma_cli.config.training_settings import DistillSettings, LossSettings, TrainSettings
from puma_cli.distillation.checks import without_effect


def _settings(teacher: str, loss: LossSettings, train: TrainSettings) -> DistillSettings:
    return DistillSettings(
        "student", Path("data"), Path("out"), teacher=teacher, loss=loss, train=train
    )


@pytest.mark.parametrize(
    ("teacher", "loss", "train", "idle"),
    [
        ("none", {}, {}, ""),
        ("none", {"bank_size": 8}, {}, "loss.bank_size has no effect without loss.bank."),
        ("model", {"bank_size": 8, "bank": 0.1}, {"cache_teacher": True}, ""),
        ("model", {"hint_depths": (1,)}, {}, "loss.hint_depths has no effect without loss.hints."),
        ("model", {"hint_depths": (1,), "hints": 0.1}, {}, ""),
        (
            "model",
            {"cosine": 1.0},
            {"cache_dtype": "float16"},
            "train.cache_dtype has no effect without a teacher that train.cache_teacher keeps.",
        ),
        ("model", {"cosine": 1.0}, {"cache_dtype": "float16", "cache_teacher": True}, ""),
        ("model", {"cosine": 1.0}, {"teacher_dtype": "bfloat16"}, ""),
        (
            "none",
            {},
            {"teacher_dtype": "bfloat16"},
            "train.teacher_dtype has no effect without a model as teacher.",
        ),
    ],
)
def test_a_value_that_nothing_asks_for_is_named(
    teacher: str, loss: dict[str, object], train: dict[str, object], idle: str
) -> None:
    found = without_effect(_settings(teacher, LossSettings(**loss), TrainSettings(**train)))  # type: ignore[arg-type]
    assert found == ([idle] if idle else [])
