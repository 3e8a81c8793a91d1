"""Puma's own commands, run as a user would type them, one after another; and locks."""

from __future__ import annotations

import fcntl
import io
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from puma_cli.errors import PumaError

_TAIL = 12  # lines of a failed command's output
_STOPPED = (130, 143)
# Locks that this process has, which what it starts has too: a training whose driver was killed
# keeps others away for as long as it lives.
_held: set[int] = set()


class CommandFailedError(PumaError):
    """A command ended with an error."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended well.

    Args:
        seconds: of the whole process.
        memory: its peak resident bytes, 0 where it had no process of its own.
        text: what it said.
    """

    seconds: float
    memory: int
    text: str


def shown(words: Sequence[str | Path]) -> str:
    """Return a command as one types it, paths below this folder relative to it."""
    here = f"{Path.cwd()}{os.sep}"
    return shlex.join(str(word).removeprefix(here) for word in words)


def run_puma(words: Sequence[str | Path], log: Path, apart: bool = False) -> Ended:
    """Run a command of puma as typed, its output added to a file.

    Args:
        apart: in a process of its own, which outlives no signal to this one, and whose peak memory
            is its own; otherwise here, which saves the seconds of loading torch.

    Raises:
        CommandFailedError: it ended with an error.
        KeyboardInterrupt: it was interrupted or terminated.
    """
    if apart:
        return run([sys.executable, "-m", "puma_cli", *words], log)
    from puma_cli.cli.app import run as here

    typed, began, said = [str(word) for word in words], time.monotonic(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = here(typed)
    text = said.getvalue()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ {shlex.join(['puma', *typed])}\n{text}")
    _check(code, ["puma", *typed], text, log)
    return Ended(time.monotonic() - began, 0, text)


def run(command: Sequence[str | Path], log: Path) -> Ended:
    """Run a command to its end, its output added to a file; a signal to this process stops both.

    Raises:
        CommandFailedError: it ended with an error.
        KeyboardInterrupt: it was interrupted or terminated.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    began = time.monotonic()
    with log.open("a+", encoding="utf-8") as output:
        output.write(f"$ {shlex.join(words)}\n")
        output.flush()
        start = output.tell()
        environment = {**os.environ, "NO_COLOR": "1"}
        process = subprocess.Popen(
            words, stdout=output, stderr=output, env=environment, pass_fds=_held
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            # A training saves its state first.
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(start)
        text = output.read()
    _check(process.returncode, words, text, log)
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Ended(time.monotonic() - began, memory, text)


def _check(code: int, words: Sequence[str], text: str, log: Path) -> None:
    """Raise what the exit code of a command stands for."""
    if code in _STOPPED or code < 0:
        raise KeyboardInterrupt
    if code:
        tail = "\n".join(text.rstrip().splitlines()[-_TAIL:])
        raise CommandFailedError(
            f"`{shlex.join(words[:4])} ...` ended with exit code {code}.",
            cause=tail,
            hint=f"All that it said is in {log}.",
        )


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock, or give False where another process has it.

    Args:
        wait: until it is free, instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        _held.add(file.fileno())
        try:
            yield True
        finally:
            _held.discard(file.fileno())
