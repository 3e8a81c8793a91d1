"""Amounts are read strictly, and a slip is named."""

from __future__ import annotations

import pytest

from puma_cli.config.amounts import parse_count, parse_size
from puma_cli.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "number"),
    [("4B", 4 * 10**9), ("350m", 350 * 10**6), (" 1.5 b ", 15 * 10**8), ("12", 12), (".5k", 500)],
)
def test_numbers_of_parameters_are_read(text: str, number: int) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("8GB", 8 * 10**9), ("7.5GiB", 15 * 2**29), ("500 mb", 5 * 10**8), ("12", 12), ("3B", 3)],
)
def test_sizes_are_read(text: str, number: int) -> None:
    assert parse_size(text) == number


@pytest.mark.parametrize("text", ["", "x", "4X", "-1", "1e9", "4 4", "0", "0.1", "nan", "1" * 99])
def test_other_texts_are_refused_with_their_value(text: str) -> None:
    for parse in (parse_count, parse_size):
        with pytest.raises(ConfigError) as caught:
            parse(text)
        assert f"`{text}`" in caught.value.problem


def test_a_likely_slip_is_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean `8GB`"):
        parse_size("8G")
    with pytest.raises(ConfigError, match="takes a size as --size 8GB"):
        parse_count("8GB")
