"""Stopping a long run between two steps when the user or the machine asks for it."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from puma_cli.errors import PumaError


class Stopped(PumaError):  # noqa: N818 (a stop on request is no error)
    """A run stopped on request; its message says what is kept."""

    def __init__(self, problem: str, *, exit_code: int, hint: str = "") -> None:
        super().__init__(problem, hint=hint)
        self.exit_code = exit_code


class StopRequest:
    """Notes Ctrl-C, SIGTERM and the end of the allotted time while its context is open.

    The first signal is only noted, so that a step is never cut in two; the second goes through.
    The context may be opened within itself: signals are noted until the outermost is left.

    Args:
        minutes: allotted time, or None.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.signal: int | None = None
        self._until = None if minutes is None else time.monotonic() + 60 * minutes
        self._previous: dict[int, Any] = {}
        self._depth = 0

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 0 otherwise."""
        return 0 if self.signal is None else 128 + self.signal

    def __bool__(self) -> bool:
        timed_out = self._until is not None and time.monotonic() >= self._until
        return self.signal is not None or timed_out

    def __enter__(self) -> StopRequest:
        self._depth += 1
        # Only the main thread may set handlers; elsewhere the caller keeps its own.
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
