"""Which inputs go through a network together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from puma_cli.models.inputs import Input

# What one more pass through a network costs beside its tokens, in tokens: calls, mostly.
PASS_TOKENS = 64
# As if a pass cost more than any padding: as few of them as the bounds allow.
FEWEST = 1 << 40
# Inputs that are sorted by size together.
WINDOW = 4_096


class InputSize(NamedTuple):
    """Tokens of an input, those of its image included, and the pixels that the tower sees."""

    tokens: int
    pixels: int


def plan_batches(
    sizes: Sequence[InputSize],
    *,
    rows: int | None = None,
    tokens: int | None = None,
    pixels: int | None = None,
    per_pass: int = PASS_TOKENS,
) -> list[list[int]]:
    """Divide inputs into batches, as their places, with the least sum of padding and passes.

    A batch holds at most so many `rows`, `tokens` with its padding and `pixels` of images; an input
    that alone has more is a batch of its own. None is no bound. The cheapest come first.

    Args:
        per_pass: what one more batch costs, in tokens (>= 0).
    """
    # Inputs with images apart: beside them, texts would be padded to an image's length.
    order = sorted(range(len(sizes)), key=lambda place: (sizes[place].pixels > 0, sizes[place]))
    first = next((n for n, place in enumerate(order) if sizes[place].pixels), len(order))
    batches = []
    for kind in (order[:first], order[first:]):
        lengths = np.array([sizes[place].tokens for place in kind], dtype=np.int64)
        shown = np.array([sizes[place].pixels for place in kind], dtype=np.int64)
        earliest = _earliest(lengths, shown, rows, tokens, pixels)
        cuts = [0, *cheapest_cuts(lengths, per_pass, earliest)]
        batches += [kind[start:end] for start, end in pairwise(cuts)]
    return batches


def cheapest_cuts(
    lengths: np.ndarray, per_pass: int, earliest: np.ndarray | None = None
) -> list[int]:
    """Return where each batch ends among rows of ascending lengths (N); the last ends at N.

    The sum over batches of rows times longest row, plus `per_pass` for each, is as small as can be.

    Args:
        earliest: for each row the first row that may be in a batch with it (N), or None for any.
    """
    if not len(lengths):
        return []
    # Rows of a length go together unless a bound divides them: then each row may end a batch.
    ends = np.arange(1, len(lengths) + 1)
    if earliest is None:
        ends = ends[np.append(lengths[1:] != lengths[:-1], True)]
    starts = np.append(0, ends)
    # cost[j]: the least cost of the rows before starts[j]; begin: where its last batch begins.
    cost = np.zeros(len(starts))
    begin = np.zeros(len(ends), dtype=np.int64)
    for j, end in enumerate(ends.tolist()):
        low = 0 if earliest is None else int(earliest[j])
        costs = cost[low : j + 1] + (end - starts[low : j + 1]) * lengths[end - 1] + per_pass
        begin[j] = low + int(costs.argmin())
        cost[j + 1] = costs[begin[j] - low]
    cuts, place = [], len(ends)
    while place:
        cuts.append(int(ends[place - 1]))
        place = int(begin[place - 1])
    return cuts[::-1]


def _earliest(
    lengths: np.ndarray,
    shown: np.ndarray,
    rows: int | None,
    tokens: int | None,
    pixels: int | None,
) -> np.ndarray | None:
    """Return for each row the first that may be in a batch whose last row it is (N)."""
    if rows is None and tokens is None and pixels is None:
        return None
    place = np.arange(len(lengths))
    earliest = np.zeros(len(lengths), dtype=np.int64)
    if rows is not None:
        earliest = np.maximum(earliest, place + 1 - rows)
    if tokens is not None:
        earliest = np.maximum(earliest, place + 1 - tokens // np.maximum(lengths, 1))
    if pixels is not None:
        before = np.append(0, np.cumsum(shown))
        earliest = np.maximum(earliest, np.searchsorted(before, before[1:] - pixels))
    return np.minimum(earliest, place)


def expected_cost(entry: Input) -> tuple[bool, int]:
    """Return what orders inputs by what they cost to embed, as far as one sees without reading."""
    return entry.image is not None, len(entry.text or "") + len(entry.instruction or "")


def windows(inputs: Sequence[Input], size: int = WINDOW) -> Iterator[list[int]]:
    """Yield the places of some thousand inputs that look alike in cost; the dearest come first.

    What they really cost is found out of one window at a time, so that millions need no memory.
    """
    order = sorted(range(len(inputs)), key=lambda i: expected_cost(inputs[i]), reverse=True)
    for start in range(0, len(order), size):
        yield order[start : start + size]
