"""Ctrl-C and SIGTERM in a real process: the right exit code, and nothing half-written."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE = 60.0  # seconds


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
