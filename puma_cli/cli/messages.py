"""From an exception to sentences and an exit code, in one table."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from puma_cli.errors import PumaError, is_out_of_memory

DONE = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130
TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM); like Ctrl-C, work in hand is saved first."""


@dataclass(frozen=True)
class Message:
    """What the user is told about a failure: the problem, its cause, the next step."""

    exit_code: int
    problem: str
    cause: str = ""
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"Error: {self.problem}"]
        lines += [f"  {line}" for line in self.cause.splitlines()]
        lines += [f"  {line}" for line in self.hint.splitlines()]
        return "\n".join(lines)


def explain(error: BaseException, params: Mapping[str, Any] | None = None) -> Message:
    """Return the message for `error`, raised by a command that was called with `params`."""
    for applies, tell in _TABLE:
        if applies(error):
            return tell(error, params or {})
    return Message(
        FAILED,
        f"{type(error).__name__}: {error}".rstrip(": "),
        cause="This is a fault of puma's own, not of your input.",
        hint="Run the same command with --debug for the traceback, and report it.",
    )


def _out_of_memory(error: BaseException, params: Mapping[str, Any]) -> Message:
    tell = _encoding_remedies
    if "student" in params:
        tell = _training_remedies
    elif "keep_last" in params:
        tell = _pruning_remedies
    remedies = tell(params)
    lines = "\n".join(f"{number}. {text}" for number, text in enumerate(remedies, start=1))
    return Message(
        FAILED,
        "Out of memory",
        cause=str(error).splitlines()[0] if str(error) else "",
        hint=f"Three ways out:\n{lines}",
    )


def _encoding_remedies(params: Mapping[str, Any]) -> list[str]:
    size = params.get("batch_size") or 128
    remedies = [f"--batch-size {max(1, size // 4)} changes nothing but the speed"]
    remedies.append("--dtype bfloat16 halves the model's memory")
    if params.get("device") == "cpu":
        fewer = "--limit 100 and --tasks take" if "limit" in params else "--tasks takes"
        remedies.append(f"{fewer} fewer queries, for a partial result")
    else:
        remedies.append("--device cpu uses the main memory, more slowly")
    return remedies


def _pruning_remedies(params: Mapping[str, Any]) -> list[str]:
    # Here --dtype is that of the result: it would change what is written.
    size = params.get("batch_size") or 128
    on_cpu = params.get("device") in (None, "cpu")
    return [
        "--verify keys leaves out the comparison, which opens the model",
        f"--batch-size {max(1, size // 4)} changes nothing but the speed of a bridge",
        "--device cuda computes on a GPU, if there is one"
        if on_cpu
        else "--device cpu uses the main memory, more slowly",
    ]


def _training_remedies(params: Mapping[str, Any]) -> list[str]:
    # A smaller batch has fewer negatives: that is the user's choice, never made in silence.
    return [
        "--set lora.rank=16 trains adapters, without optimizer state for the whole model",
        "--dtype bfloat16 halves the memory of weights and activations",
        "--set batch.size=32 needs less, but has fewer negatives: scores will differ",
    ]


def _puma(error: BaseException, params: Mapping[str, Any]) -> Message:
    assert isinstance(error, PumaError)
    return Message(error.exit_code, error.problem, error.cause, error.hint)


def _interrupted(error: BaseException, params: Mapping[str, Any]) -> Message:
    by_signal = isinstance(error, Terminated)
    return Message(
        TERMINATED if by_signal else INTERRUPTED,
        "Terminated" if by_signal else "Interrupted",
    )


def _disk_full(error: BaseException, params: Mapping[str, Any]) -> Message:
    return Message(
        FAILED,
        "The disk is full",
        cause=str(error),
        hint="Make room, or choose another disk with --output-dir. Nothing half-written is left.",
    )


def _system(error: BaseException, params: Mapping[str, Any]) -> Message:
    assert isinstance(error, OSError)
    where = f"{error.filename}: " if error.filename else ""
    return Message(
        FAILED, f"{where}{error.strerror or error}", hint="Check the path and its rights."
    )


def _missing_part(error: BaseException, params: Mapping[str, Any]) -> Message:
    return Message(
        FAILED,
        f"A part of the installation is missing: {error}",
        hint="Install again with `pip install --upgrade puma-cli`.",
    )


_Test = Callable[[BaseException], bool]
_Tell = Callable[[BaseException, Mapping[str, Any]], Message]

# The first row that applies speaks; rows go from the special to the general.
_TABLE: tuple[tuple[_Test, _Tell], ...] = (
    (lambda error: isinstance(error, PumaError), _puma),
    (lambda error: isinstance(error, KeyboardInterrupt), _interrupted),
    (is_out_of_memory, _out_of_memory),
    (lambda e: isinstance(e, OSError) and e.errno in {errno.ENOSPC, errno.EDQUOT}, _disk_full),
    (lambda error: isinstance(error, OSError), _system),
    (lambda error: isinstance(error, ImportError), _missing_part),
)
