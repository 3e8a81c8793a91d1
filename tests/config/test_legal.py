"""The table of legal values knows only fields that exist, and every default is legal."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import pytest

from puma_cli.config import index_settings, legal, settings, training_settings
from puma_cli.config.legal import check_settings
from puma_cli.errors import ConfigError

CLASSES = {
    name: value
    for name, value in {
        **vars(settings),
        **vars(training_settings),
        **vars(index_settings),
    }.items()
    if is_dataclass(value) and isinstance(value, type)
}


def test_every_rule_is_about_a_field() -> None:
    names = {field.name for cls in CLASSES.values() for field in fields(cls)}
    assert set(legal._SHARED) <= names
    for cls, rules in legal._OWN.items():
        assert set(rules) <= {field.name for field in fields(CLASSES[cls])}


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES.keys())
def test_defaults_are_legal(cls: Any) -> None:
    needed = {
        **{"model": "m", "models": ("m",), "student": "s"},
        **{"data": "d", "inputs": ("i",), "index": "i", "output_dir": "o"},
    }
    own = {field.name for field in fields(cls) if field.default is MISSING}
    check_settings(cls(**{name: value for name, value in needed.items() if name in own}))


@pytest.mark.parametrize(("value", "fine"), [(0.0, False), (0.5, True), (1.0, True), (1.01, False)])
def test_the_ends_of_a_range_count_as_declared(value: float, fine: bool) -> None:
    asked = settings.AnalyzeSettings("m", "d", "o", target_retention=value)  # type: ignore[arg-type]
    if fine:
        check_settings(asked)
    else:
        with pytest.raises(ConfigError, match="more than 0 and at most 1"):
            check_settings(asked)
