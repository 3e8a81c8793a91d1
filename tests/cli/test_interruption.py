"""Ctrl-C and SIGTERM in a real process: the right exit code, and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from puma_cli.cli.app import run
from puma_cli.progress import Reporter

PATIENCE = 60.0  # seconds
T = TypeVar("T")


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_a_signal_leaves_nothing_behind(
    number: signal.Signals, code: int, word: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "puma_cli", "data", "scenes", "-o", "scenes"]
    # A runner in the background hands on a SIGINT that is ignored; a user's shell does not.
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + PATIENCE
    # The draft beside the final name shows that writing has begun.
    while not any(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    _, talk = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert word in talk
    assert "Traceback" not in talk
    assert list(tmp_path.iterdir()) == []


class SignalAmong(Reporter):
    """Sends this process a signal when the first of what is called `label` passes."""

    def __init__(self, number: int, label: str) -> None:
        self.number, self.label, self.notes = number, label, list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        for place, item in enumerate(items):
            if label == self.label and place == 0:
                os.kill(os.getpid(), self.number)
            yield item


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_analysis_keeps_what_it_measured(
    number: signal.Signals,
    code: int,
    tiny_checkpoint: Path,
    tiny_scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    reporter = SignalAmong(number, "other candidates")
    monkeypatch.setattr("puma_cli.cli.session.choose_reporter", lambda quiet: reporter)
    command = ["analyze", str(tiny_checkpoint), "--data", str(tiny_scenes), "-o", "p"]
    assert run([*command, "--batch-size", "1", "--bridge-rows", "0"]) == code
    assert any(note.startswith("Stopped early") for note in reporter.notes)
    assert "PARTIAL, stopped early" in " ".join(capsys.readouterr().out.split())
    profile = json.loads((tmp_path / "p" / "profile.json").read_text())
    assert profile["measured"]["stopped"] and profile["measured"]["partial"]
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_mining_leaves_nothing(
    number: signal.Signals,
    code: int,
    tiny_checkpoint: Path,
    tiny_scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    reporter = SignalAmong(number, "positives")
    monkeypatch.setattr("puma_cli.cli.session.choose_reporter", lambda quiet: reporter)
    # As in a user's shell: a runner in the background hands on a SIGINT that is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    assert run(["mine", str(tiny_checkpoint), "--data", str(tiny_scenes), "-o", "m"]) == code
    assert "Nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
