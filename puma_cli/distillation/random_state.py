"""The random numbers of a pass or a training, noted so that it can be run again alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# States of torch's generators: on the CPU, and on the GPU where there is one.
RandomState = tuple[Tensor, Tensor | None]


def random_state(device: torch.device) -> RandomState:
    """Return the states of torch's generators on the CPU and on `device`."""
    there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), there


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Draw from now on as after `state` was noted."""
    here, there = state
    torch.set_rng_state(here)
    if there is not None and device.type == "cuda":
        torch.cuda.set_rng_state(there, device)


@contextmanager
def replayed(state: RandomState, device: torch.device) -> Iterator[None]:
    """Draw the same numbers as after `state` was noted; what comes later is as if nothing was."""
    before = random_state(device)
    set_random_state(state, device)
    try:
        yield
    finally:
        set_random_state(before, device)
