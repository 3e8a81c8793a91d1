"""Measuring several things in turn, so that what else the machine does falls on all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from puma_cli.progress import SILENT, Reporter

T = TypeVar("T")


def take_turns(
    items: Sequence[T],
    repeats: int,
    warmup: int = 0,
    reporter: Reporter = SILENT,
    label: str = "measure",
) -> Iterator[tuple[T, bool]]:
    """Yield all items once a turn, in order and in reverse by turns, each with whether it counts.

    However the machine heats up or slows down, over an even number of turns every item stands in
    the middle on average.

    Args:
        repeats: turns that count (>= 1).
        warmup: turns before these that do not (>= 0).
        label: what the reporter calls the whole.
    """
    turns = range(warmup + repeats)
    for turn in reporter.track(turns, label, total=len(turns)):
        for item in items if turn % 2 == 0 else items[::-1]:
            yield item, turn >= warmup
