"""Lists of layers are read strictly."""

from __future__ import annotations

import pytest

from puma_cli.config.layers import (
    checked_layers,
    first_layers,
    keep_last_layers,
    parse_layers,
)
from puma_cli.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "layers"),
    [("0-2,11", (0, 1, 2, 11)), ("3", (3,)), (" 0 , 2-2 ,4", (0, 2, 4)), ("0-3", (0, 1, 2, 3))],
)
def test_lists_and_ranges_are_read(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize(
    "text", ["", "a", "1,", "0--2", "-1", "2-1", "0,0", "0-2,2", "3,1", "1.5", "0-999999999"]
)
def test_other_texts_are_refused_with_their_value(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_layers(text)
    assert f"`{text}`" in caught.value.problem


def test_the_first_layers_are_counted() -> None:
    assert first_layers(1, 4) == (0,)
    assert first_layers(4, 4) == (0, 1, 2, 3)
    for keep in (0, -1, 5):
        with pytest.raises(ConfigError, match=f"^{keep} layers cannot be kept of 4"):
            first_layers(keep, 4)


def test_the_last_layer_stays_with_the_first_ones() -> None:
    assert keep_last_layers(2, 12) == (0, 11)
    assert keep_last_layers(4, 12) == (0, 1, 2, 11)
    assert keep_last_layers(12, 12) == tuple(range(12))
    for keep in (0, 1, 13):
        with pytest.raises(ConfigError, match=f"^{keep} layers, the last among them, .* of 12"):
            keep_last_layers(keep, 12)


def test_layers_are_checked_against_the_depth() -> None:
    assert checked_layers([0, 3], 4) == (0, 3)
    with pytest.raises(ConfigError, match="no decoder layer 4: the model has 4"):
        checked_layers([0, 4], 4)
    with pytest.raises(ConfigError, match="ascending"):
        checked_layers([1, 0], 4)
    with pytest.raises(ConfigError, match="No layers"):
        checked_layers([], 4)
