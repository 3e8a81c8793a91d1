"""Ctrl-C and SIGTERM in a real process: the right exit code, and nothing half-written."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE = 60.0  # seconds


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a process as a user's shell does."""
    return subprocess.Popen(
        command,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        # A runner in the background hands on a SIGINT that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_a_signal_leaves_nothing_behind(
    number: signal.Signals, code: int, word: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "puma_cli", "data", "scenes", "-o", "scenes"]
    process = start(command, tmp_path)
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_analysis_keeps_what_it_measured(
    number: signal.Signals, code: int, tiny_checkpoint: Path, tiny_scenes: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "puma_cli", "analyze", str(tiny_checkpoint)]
    command += ["--data", str(tiny_scenes), "--batch-size", "1", "--bridge-rows", "0", "-o", "p"]
    process = start(command, tmp_path)
    assert process.stderr is not None
    talk = ""
    while "other candidates" not in talk and process.poll() is None:
        talk += process.stderr.readline()
    process.send_signal(number)
    _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, talk + rest
    assert "Stopped early" in rest and "Traceback" not in rest
    profile = json.loads((tmp_path / "p" / "profile.json").read_text())
    assert profile["measured"]["stopped"] and profile["measured"]["partial"]
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
