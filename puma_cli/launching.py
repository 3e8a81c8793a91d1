"""Several processes of one command on this machine, watched until the last has ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from puma_cli.errors import PartnerError, ProcessError
from puma_cli.processes import LISTENING

# Seconds that the others have, once one has failed: to end by themselves, then to save on SIGTERM.
# A process that waits for one that is gone would wait on for many minutes.
PATIENCE = 10.0
_PAUSE = 0.1


@dataclass(frozen=True)
class _Child:
    place: int
    process: subprocess.Popen[bytes]
    errors: IO[bytes] | None

    def said(self) -> str:
        """Return what it wrote to stderr, if that was not shown already."""
        if self.errors is None:
            return ""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()


def launch(words: Sequence[str], count: int) -> int:
    """Run `puma WORDS` in `count` processes that know of each other; return the exit code.

    The first process talks; of another one, its last words are part of the error. Ctrl-C reaches
    all of them by the terminal, SIGTERM is passed on.

    Raises:
        ProcessError: a process other than the first failed by itself.
    """
    children: list[_Child] = []
    with _passed_on(children):
        # The first process listens on a socket that is open already: a number alone could be taken
        # by another program before it comes to that.
        with socket.create_server(("127.0.0.1", 0), backlog=count) as listening:
            for place in range(count):
                children.append(_start(words, place, count, listening))
        first = _watch(children)
    if first is None:
        return 0
    code = first.process.returncode
    if code < 0:
        raise ProcessError(
            f"Process {first.place + 1} of {count} was ended by {signal.Signals(-code).name}.",
            cause=first.said() or "The system ends a process so when memory runs out.",
            hint="The others were stopped. Go on from the last saved state with --resume.",
        )
    if first.said() and code not in (130, 143):
        raise ProcessError(
            f"Process {first.place + 1} of {count} failed.",
            cause=first.said(),
            hint="The others were stopped.",
        )
    return code


def _start(words: Sequence[str], place: int, count: int, listening: socket.socket) -> _Child:
    cores = os.cpu_count() or 1
    surroundings = {
        # As many threads in all as there are cores.
        "OMP_NUM_THREADS": str(max(1, cores // count)),
        **os.environ,
        "RANK": str(place),
        "LOCAL_RANK": str(place),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(listening.getsockname()[1]),
        LISTENING: str(listening.fileno()),
    }
    errors = tempfile.TemporaryFile() if place else None  # noqa: SIM115 (closed with the child)
    process = subprocess.Popen(
        [sys.executable, "-m", "puma_cli", *words],
        env=surroundings,
        stdout=subprocess.DEVNULL if place else None,
        stderr=errors,
        pass_fds=() if place else (listening.fileno(),),
    )
    return _Child(place, process, errors)


def _watch(children: Sequence[_Child]) -> _Child | None:
    """Wait for all to end; return the one that failed by itself, or None."""
    failed_at: float | None = None
    stopped: set[int] = set()
    while running := [child for child in children if child.process.poll() is None]:
        if failed_at is None and any(child.process.returncode for child in children):
            failed_at = time.monotonic()
        late = 0.0 if failed_at is None else time.monotonic() - failed_at
        if late > PATIENCE:
            stopped |= {child.place for child in running}
            for child in running:
                child.process.kill() if late > 2 * PATIENCE else child.process.terminate()
        time.sleep(_PAUSE)
    failed = [c for c in children if c.process.returncode and c.place not in stopped]
    return min(failed, key=_guilt, default=None)


def _guilt(child: _Child) -> tuple[bool, bool, int]:
    """Order failed children: one that a signal ended takes others down, and they say so."""
    code = child.process.returncode
    return code >= 0, code == PartnerError.exit_code, child.place


@contextmanager
def _passed_on(children: Sequence[_Child]) -> Iterator[None]:
    """Leave it to the children what a signal means."""

    def pass_on(number: int, frame: object) -> None:
        if number == signal.SIGTERM:
            for child in children:
                child.process.terminate()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
