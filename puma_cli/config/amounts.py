"""Numbers of parameters and bytes as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from puma_cli.errors import ConfigError

_AMOUNT: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?|\.\d{1,9})\s*([A-Za-z]*)")
_COUNTS: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_SIZES: Final = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}


def parse_count(text: str) -> int:
    """Return a number of parameters such as `4B` (10^9), `350M` or `1500000000`.

    Raises:
        ConfigError: the text is no such number, or less than one.
    """
    if text.strip().lower().endswith(("gb", "mb", "kb", "tb", "ib")):
        raise ConfigError(
            f"`{text}` is a size, not a number of parameters.",
            hint=f"Write a number such as 4B; `puma prune` takes a size as --size {text}.",
        )
    return _parse(text, _COUNTS, "a number of parameters", "4B, 350M or 1500000000")


def parse_size(text: str) -> int:
    """Return a number of bytes such as `8GB` (10^9) or `7.5GiB` (2^30).

    Raises:
        ConfigError: the text is no such number, or less than one.
    """
    return _parse(text, _SIZES, "a size", "8GB, 7.5GiB or 500MB")


def _parse(text: str, units: Mapping[str, int], what: str, examples: str) -> int:
    from fractions import Fraction  # brings decimal, which most cuts have no use for

    match = _AMOUNT.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match is None or unit not in units:
        guess = _guess(unit, units) if match else ""
        raise ConfigError(
            f"`{text}` is not {what}.",
            cause=f"Did you mean `{match[1]}{guess}`?" if match and guess else "",
            hint=f"Write it such as {examples}.",
        )
    amount = int(Fraction(match[1]) * units[unit])
    if amount < 1:
        raise ConfigError(f"`{text}` is less than one.", hint=f"Write it such as {examples}.")
    return amount


def _guess(unit: str, units: Mapping[str, int]) -> str:
    """Return the unit that a misspelt one probably stands for, spelled as people do."""
    for candidate in units:
        if candidate and candidate.removesuffix("b") == unit.removesuffix("b")[:1]:
            return candidate.upper()
    return ""
