"""Progress in logs and on terminals."""

import io
from itertools import pairwise

import pytest

from puma_cli.cli import console_reporter
from puma_cli.cli.console_reporter import (
    BarReporter,
    LogReporter,
    choose_reporter,
    show_values,
)
from puma_cli.progress import SILENT


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console_reporter, "time", clock)
    return clock


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_gets_few_lines_with_the_time_left(clock: Clock) -> None:
    stream = io.StringIO()
    for _ in LogReporter(stream).track(range(100), "encode"):
        clock.now += 1.0
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[1] == "encode: 20/100 (20%), 1:20 min left"
    assert "left" not in lines[-1]


def test_a_short_loop_says_nothing(clock: Clock) -> None:
    stream = io.StringIO()
    assert list(LogReporter(stream).track(iter("abc"), "read")) == ["a", "b", "c"]
    assert stream.getvalue() == ""


def test_a_resumed_training_measures_its_own_speed(clock: Clock) -> None:
    stream = io.StringIO()
    reporter = LogReporter(stream)
    for done in range(501, 601):
        clock.now += 2.0
        reporter.step(done, 1000, {"loss": 0.51234, "lr": 0.00098})
    lines = stream.getvalue().splitlines()
    assert lines[0] == "step 501/1000 (50%), loss 0.512  lr 9.8e-04"
    assert lines[1].endswith("16:28 min left")
    assert len(lines) == 20


def test_a_day_of_training_takes_a_few_hundred_lines(clock: Clock) -> None:
    stream = io.StringIO()
    reporter = LogReporter(stream)
    told: list[float] = []
    for done in range(1, 8_641):
        clock.now += 10.0
        reporter.step(done, 8_640, {"loss": 1.0})
        if len(stream.getvalue().splitlines()) > len(told):
            told.append(clock.now)
    assert 300 < len(told) < 400
    waits = [later - earlier for earlier, later in pairwise(told)]
    assert waits[:5] == [10.0] * 5 and max(waits) == 300.0 and sorted(waits[:-1]) == waits[:-1]


def test_the_last_step_is_always_written(clock: Clock) -> None:
    stream = io.StringIO()
    reporter = LogReporter(stream)
    for done in range(1, 5):
        reporter.step(done, 4, {"loss": 1.0})
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "step 1/4 (25%)",
        "step 4/4 (100%)",
    ]


def test_bars_go_when_their_loop_ends_or_breaks() -> None:
    reporter = BarReporter(Terminal())
    for _ in reporter.track(range(3), "outer"):
        loop = reporter.track(range(3), "inner")
        next(loop)
        loop.close()  # type: ignore[attr-defined]
    reporter.step(1, 2, {"loss": 1.0})
    assert reporter._progress is not None
    reporter.step(2, 2, {"loss": 1.0})
    assert reporter._progress is None


def test_labels_are_not_markup() -> None:
    stream = Terminal()
    reporter = BarReporter(stream)
    reporter.note("[1/7] Drawing [bold]")
    assert "[1/7] Drawing [bold]" in stream.getvalue()


def test_the_stream_decides() -> None:
    assert choose_reporter(quiet=True, stream=Terminal()) is SILENT
    assert isinstance(choose_reporter(quiet=False, stream=Terminal()), BarReporter)
    assert isinstance(choose_reporter(quiet=False, stream=io.StringIO()), LogReporter)


def test_values() -> None:
    assert show_values({"loss": 1.23456, "lr": 2e-4, "zero": 0.0}) == (
        "loss 1.235  lr 2.0e-04  zero 0.000"
    )
