"""Which decoder layers stay: from what a user types to a tuple of indices."""

from __future__ import annotations

import re
from collections.abc import Sequence

from puma_cli.errors import ConfigError

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def parse_layers(text: str) -> tuple[int, ...]:
    """Return the layers that a list such as `0-2,11` names, both ends of a range included.

    Raises:
        ConfigError: the text is no such list, or not in ascending order.
    """
    layers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ConfigError(
                f"`{part.strip()}` in the layers `{text}` is no number and no range.",
                hint="Write them such as 0-2,11: ascending, counted from 0, both ends included.",
            )
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first or (layers and first <= layers[-1]):
            raise ConfigError(
                f"The layers `{text}` are not in ascending order at `{part.strip()}`.",
                hint="Write each layer once, the lowest first, such as 0-2,11.",
            )
        if last - first > 100_000:
            raise ConfigError(f"The layers `{text}` name more layers than any decoder has.")
        layers.extend(range(first, last + 1))
    return tuple(layers)


def first_layers(keep: int, depth: int) -> tuple[int, ...]:
    """Return the first `keep` of `depth` layers.

    Raises:
        ConfigError: `keep` is not 1 to `depth`.
    """
    if not 1 <= keep <= depth:
        raise ConfigError(
            f"{keep} layers cannot be kept of {depth}.", hint=f"Give --keep from 1 to {depth}."
        )
    return tuple(range(keep))


def keep_last_layers(keep: int, depth: int) -> tuple[int, ...]:
    """Return the first `keep - 1` of `depth` layers and the last one.

    Args:
        keep: number of layers that stay (2 to `depth`).
        depth: number of layers L (>= 2).

    Raises:
        ConfigError: `keep` is not 2 to `depth`.
    """
    if not 2 <= keep <= depth:
        raise ConfigError(
            f"{keep} layers, the last among them, cannot be kept of {depth}.",
            hint=f"With --keep-last, keep from 2 to {depth} layers."
            if depth >= 2
            else "Leave --keep-last away.",
        )
    return (*range(keep - 1), depth - 1)


def are_first(kept: Sequence[int]) -> bool:
    """Tell whether the layers `kept` are a decoder's first ones, none skipped."""
    return list(kept) == list(range(len(kept)))


def are_first_and_last(kept: Sequence[int], depth: int) -> bool:
    """Tell whether the layers are 0, 1, ..., k - 2 and the last of `depth`, with a gap between."""
    return not are_first(kept) and list(kept) == [*range(len(kept) - 1), depth - 1]


def checked_layers(kept: Sequence[int], depth: int) -> tuple[int, ...]:
    """Return `kept` if it is an ascending list of layers of a decoder of `depth` layers.

    Raises:
        ConfigError: it is empty, not ascending or beyond the decoder.
    """
    layers = tuple(int(layer) for layer in kept)
    if not layers:
        raise ConfigError("No layers are kept.", hint="Keep at least one.")
    beyond = [layer for layer in layers if not 0 <= layer < depth]
    if beyond:
        raise ConfigError(
            f"There is no decoder layer {beyond[0]}: the model has {depth}, counted from 0.",
            hint=f"Use layers from 0 to {depth - 1}.",
        )
    if list(layers) != sorted(set(layers)):
        raise ConfigError(
            f"The layers {list(layers)} are not in ascending order.", hint="Name each layer once."
        )
    return layers
