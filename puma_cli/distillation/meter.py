"""How fast a training goes, what memory it takes, and how long it will last."""

from __future__ import annotations

import sys
import time

import torch


class Meter:
    """Counts what the steps take between two readings; validations and saves are left out.

    Args:
        device: where the training computes.
        first: steps that were done before this session.
        total: steps of the whole training.
    """

    def __init__(self, device: torch.device, first: int, total: int) -> None:
        self._device, self._first, self._total = device, first, total
        self._began = self._since = time.monotonic()
        self._seconds, self._pairs, self._tokens = 0.0, 0, 0

    def count(self, pairs: int, tokens: int) -> None:
        """Note that a step is done.

        Args:
            pairs: queries with a positive in its batch.
            tokens: tokens of all its inputs, padding left out.
        """
        now = time.monotonic()
        self._seconds += now - self._since
        self._since = now
        self._pairs += pairs
        self._tokens += tokens

    def go_on(self) -> None:
        """Leave out the time since the last step."""
        self._since = time.monotonic()

    def read(self, done: int) -> dict[str, float]:
        """Return what the log says, and start to count anew.

        Args:
            done: steps done, over all sessions.
        """
        seconds = max(self._seconds, 1e-9)
        values = {
            "pairs_per_second": self._pairs / seconds,
            "tokens_per_second": self._tokens / seconds,
            "seconds_left": self.left(done),
        }
        self._seconds, self._pairs, self._tokens = 0.0, 0, 0
        memory = peak_memory(self._device)
        return values if memory is None else {**values, "memory_bytes": float(memory)}

    def left(self, done: int) -> float:
        """Return the seconds to the last step, at the pace of this session so far."""
        pace = (time.monotonic() - self._began) / max(1, done - self._first)
        return pace * (self._total - done)


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes held at once: by tensors on CUDA, else by the process, if it says."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:
        # Windows has no such count.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kilobytes, macOS in bytes.
    return peak if sys.platform == "darwin" else 1024 * peak
