"""Which settings are not the defaults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from puma_cli.checkpoint.provenance import to_plain
from puma_cli.config.changes import Change, changes, defaults, flattened, say_value
from puma_cli.config.loading import load_settings, paths_of
from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import DistillSettings, LossSettings

PLAIN = DistillSettings("pruned", Path("scenes"), Path("student"))


def found(settings: DistillSettings) -> list[Change]:
    return changes(flattened(to_plain(settings)), DistillSettings)


def test_settings_without_a_change_have_none() -> None:
    assert found(PLAIN) == []


def test_changes_are_named_by_their_dots_in_the_order_of_the_fields() -> None:
    loss = LossSettings("mac", dimensions=(64, 128), false_negative_margin=-0.05, symmetric=True)
    changed = replace(PLAIN, seed=3, lora=LoraSettings(rank=8), loss=loss)
    assert found(changed) == [
        ("loss.contrastive", "mac", "info_nce"),
        ("loss.symmetric", "true", "false"),
        ("loss.dimensions", "64,128", "none"),
        ("loss.false_negative_margin", "-0.05", "none"),
        ("lora.rank", "8", "0"),
        ("seed", "3", "0"),
    ]


def test_changes_can_be_typed_again() -> None:
    loss = LossSettings("mac", dimensions=(64, 128), mse=0.005, symmetric=True)
    changed = replace(PLAIN, loss=loss, lora=LoraSettings(rank=8))
    typed = [f"{name}={value}" for name, value, _ in found(changed)]
    flags = {"student": "pruned", "data": "scenes", "output_dir": "student"}
    assert load_settings(DistillSettings, overrides=typed, flags=flags) == changed


def test_every_setting_has_a_default_but_those_that_must_be_given() -> None:
    missing = set(paths_of(DistillSettings)) - defaults(DistillSettings).keys()
    assert missing == {"student", "data", "output_dir"}


def test_names_of_other_versions_are_no_changes() -> None:
    assert changes({"gone": 1, "seed": 0}, DistillSettings) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "none"), (True, "true"), (2e-4, "0.0002"), ((), "none"), (["a", "b"], "a,b"), (7, "7")],
)
def test_values_read_as_they_are_typed(value: object, text: str) -> None:
    assert say_value(value) == text
