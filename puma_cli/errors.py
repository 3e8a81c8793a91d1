"""Everything that can go wrong in a way the user can mend, as one family of exceptions."""

from __future__ import annotations

from pathlib import Path


class PumaError(Exception):
    """A failure the user can act on.

    Args:
        problem: what went wrong, one sentence, with the offending value in it.
        cause: why it happened, where that is known.
        hint: the next step: what to change or to type.
    """

    exit_code = 1

    def __init__(self, problem: str, *, cause: str = "", hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.cause = cause
        self.hint = hint

    def __str__(self) -> str:
        return "\n".join(part for part in (self.problem, self.cause, self.hint) if part)


class CheckpointError(PumaError):
    """A model folder is missing, incomplete or not what it says it is."""


class ConfigError(PumaError):
    """A setting, recipe or option has an unknown name or an illegal value."""

    exit_code = 2


class DataError(PumaError):
    """A data set breaks its layout: a missing file, a broken line, an unknown id."""


class ImageError(DataError):
    """An image is missing or cannot be read.

    Args:
        path: its file.
    """

    def __init__(
        self, problem: str, *, cause: str = "", hint: str = "", path: Path | None = None
    ) -> None:
        super().__init__(problem, cause=cause, hint=hint)
        self.path = path


class OutputError(PumaError):
    """A result cannot be written: the folder is not empty, the disk is full."""


class DeviceError(PumaError):
    """The device asked for is absent or out of memory."""


class NumericError(PumaError):
    """A computation left the finite numbers."""


class ProcessError(PumaError):
    """One of several processes has failed."""


class PartnerError(ProcessError):
    """Another process of the run has failed or is gone, and this one cannot go on without it.

    Args:
        told: whether the other one tells the user why itself.
    """

    # So that whoever started them sees which one went first.
    exit_code = 3

    def __init__(self, problem: str, *, cause: str = "", hint: str = "", told: bool = False):
        super().__init__(problem, cause=cause, hint=hint)
        self.told = told


class VerificationError(PumaError):
    """What was written does not compute what its parent computes."""


_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device or the machine had no memory left, or an error says so of another."""
    # By name and text, since importing torch to ask would take seconds.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, RuntimeError) and any(s in str(error).lower() for s in _MEMORY_SIGNS):
        return True
    cause = error.__cause__ if isinstance(error, DeviceError) else None
    return cause is not None and is_out_of_memory(cause)
