"""Progress on a terminal as bars with the time left, in a log as occasional plain lines."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, TextIO, TypeVar

from puma_cli.progress import SILENT, Reporter
from puma_cli.report.numbers import duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")

# Seconds between two lines of a log, at first and at most, and their share of the time so far
# in between: a training of a day takes a few hundred lines instead of thousands.
_LOG_SECONDS, _LOG_SECONDS_LATE, _LOG_SHARE = 10.0, 300.0, 0.05


def choose_reporter(quiet: bool, stream: TextIO | None = None) -> Reporter:
    """Return the reporter that suits `stream`, by default standard error."""
    stream = stream or sys.stderr
    if quiet:
        return SILENT
    return BarReporter(stream) if stream.isatty() else LogReporter(stream)


class LogReporter(Reporter):
    """Writes a line of progress every `every` seconds at first and more seldom later."""

    def __init__(self, stream: TextIO, every: float = _LOG_SECONDS) -> None:
        self.stream = stream
        self.every = every
        self._pace = _Pace()
        self._began: float | None = None
        self._last = -math.inf

    def note(self, text: str) -> None:
        self._line(text)

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        total = _length(items) if total is None else total
        pace = _Pace()
        pace.update(0)
        began = last = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            pace.update(done)
            if self._is_due(began, last):
                last = time.monotonic()
                self._line(f"{label}: {_share(done, total)}{pace.left(total)}")

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        self._pace.update(done)
        if self._began is None:
            self._began = time.monotonic()
        if done >= total or self._is_due(self._began, self._last):
            self._last = time.monotonic()
            self._line(f"step {_share(done, total)}, {show_values(values)}{self._pace.left(total)}")
        if done >= total:
            self._pace, self._began = _Pace(), None

    def _is_due(self, began: float, last: float) -> bool:
        now = time.monotonic()
        wait = min(_LOG_SECONDS_LATE, _LOG_SHARE * (now - began))
        return now - last >= max(self.every, wait)

    def _line(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()


class BarReporter(Reporter):
    """Draws one bar for each loop that runs; notes scroll by above them."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self.console = Console(file=stream, emoji=False)
        self._progress: Progress | None = None
        self._training: TaskID | None = None

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        progress = self._open()
        total = _length(items) if total is None else total
        task = progress.add_task(label, total=total, values="")
        try:
            for item in items:
                yield item
                progress.advance(task)
        finally:
            self._drop(task)

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        progress = self._open()
        if self._training is None:
            self._training = progress.add_task("train", total=total, completed=done, values="")
        # One number beside the bar fits any window; the log has them all.
        shown = show_values(dict(list(values.items())[:1]))
        progress.update(self._training, completed=done, total=total, values=shown)
        if done >= total:
            self._drop(self._training)

    def close(self) -> None:
        """Take all bars away, so that other text can follow."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._training = None

    def _open(self) -> Progress:
        if self._progress is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeRemainingColumn as TimeLeftColumn

            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeLeftColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[values]}", markup=False),
                console=self.console,
                transient=True,
                # Seconds a step are common on a CPU; the default window forgets them too soon.
                speed_estimate_period=120.0,
            )
            self._progress.start()
        return self._progress

    def _drop(self, task: TaskID) -> None:
        if task == self._training:
            self._training = None
        if self._progress is None:
            return
        self._progress.remove_task(task)
        if not self._progress.tasks:
            self.close()


class _Pace:
    """Estimates the time left from the speed since the first update, which may not be at zero."""

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None
        self._now = (0.0, 0)

    def update(self, done: int) -> None:
        self._now = (time.monotonic(), done)
        self._start = self._start or self._now

    def left(self, total: int | None) -> str:
        if self._start is None or not total:
            return ""
        seconds, done = self._now[0] - self._start[0], self._now[1] - self._start[1]
        missing = total - self._now[1]
        if done <= 0 or missing <= 0:
            return ""
        return f", {duration(seconds / done * missing)} left"


def show_values(values: Mapping[str, float]) -> str:
    """Return the numbers of a training step as `loss 0.512  lr 9.8e-04`."""
    return "  ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: float) -> str:
    return f"{value:.1e}" if value != 0 and abs(value) < 0.01 else f"{value:.3f}"


def _share(done: int, total: int | None) -> str:
    return f"{done}/{total} ({100 * done // total}%)" if total else str(done)


def _length(items: Iterable[object]) -> int | None:
    return len(items) if isinstance(items, Sized) else None
