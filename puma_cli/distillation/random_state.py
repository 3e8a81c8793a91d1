"""The random numbers of a pass, noted so that it can be run again alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return the states of torch's generators on the CPU and on `device`."""
    there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), there


@contextmanager
def replayed(state: tuple[Tensor, Tensor | None], device: torch.device) -> Iterator[None]:
    """Draw the same numbers as after `state` was noted; what comes later is as if nothing was."""
    before = random_state(device)
    _put(state, device)
    try:
        yield
    finally:
        _put(before, device)


def _put(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    here, there = state
    torch.set_rng_state(here)
    if there is not None:
        torch.cuda.set_rng_state(there, device)
