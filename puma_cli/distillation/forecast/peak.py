"""The most memory that a stretch of a computation held."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch

from puma_cli.distillation.meter import peak_memory

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Counts from where it is made: tensors on CUDA, elsewhere what the process grew by.

    Args:
        device: where the computation runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type != "cuda":
            _return_freed()
        self._before = 0 if device.type == "cuda" else resident()
        self.restart()

    def restart(self) -> None:
        """Forget the peak so far, where the system can; what is held by now stays counted."""
        if self._device.type == "cuda":
            # There are no counts to reset before the first use.
            torch.cuda.init()
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        try:
            # Linux: the highest resident size becomes the present one.
            _CLEAR.write_text("5", encoding="ascii")
        except OSError:
            return

    def read(self) -> int | None:
        """Return the most bytes held at once since the last `restart`, if the system says.

        A process that fits in what it held before has grown by nothing: that says nothing either.
        """
        if self._device.type == "cuda":
            return peak_memory(self._device)
        peak = _status("VmHWM") or peak_memory(self._device)
        return None if peak is None or peak <= self._before else peak - self._before


def _return_freed() -> None:
    """Let the system have what was freed, where it can: what takes its place counts as growth."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        # Only the C library of most Linux systems has it.
        return


def resident() -> int:
    """Return the bytes of main memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _status(name: str) -> int | None:
    """Return a size that Linux says of this process, in bytes."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(found[0]) if found else None
