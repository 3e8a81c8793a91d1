"""How a long computation tells its caller where it stands, without printing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class Reporter:
    """Receives the news of a run; this base class keeps silent.

    The command line passes a subclass that draws progress bars or writes plain lines.
    """

    def note(self, text: str) -> None:
        """Take one sentence of news."""

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield `items` unchanged while showing how many of `total` are done."""
        yield from items

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """Take the state of a training: `done` of `total` steps and the latest values by name."""


SILENT = Reporter()


def by_rows(
    reporter: Reporter,
    items: Iterable[T],
    label: str,
    total: int | None,
    rows: Callable[[T], int],
) -> Iterator[T]:
    """Yield `items` unchanged while showing how many of `total` rows they hold so far."""

    def counted() -> Iterator[T | None]:
        for item in items:
            # First, so that what is shown when the item is done counts all of its rows.
            for _ in range(rows(item) - 1):
                yield None
            yield item

    for item in reporter.track(counted(), label, total):
        if item is not None:
            yield item
