"""The processes that share one run, as started by `accelerate launch` or `torchrun`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from puma_cli.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


class Processes:
    """This process among those of the run; by default it is alone.

    Methods that exchange something must be called by all processes, in the same order.

    Args:
        place: this one's number (0 to count - 1).
        count: how many there are (>= 1).
        device: where tensors are exchanged; needed with more than one.
    """

    def __init__(self, place: int = 0, count: int = 1, device: torch.device | None = None) -> None:
        self.place, self.count, self._device = place, count, device

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.place == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return every count-th item: together, the processes' shares are all of them."""
        return items[self.place :: self.count]

    def total(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.count == 1:
            return
        from torch import distributed

        for tensor in tensors:
            # NCCL knows no tensors on the CPU.
            there = tensor.to(self._device)
            distributed.all_reduce(there)
            tensor.copy_(there)

    def any(self, flag: bool) -> bool:
        """Tell whether any process says so."""
        if self.count == 1:
            return flag
        import torch

        found = torch.tensor(int(flag), dtype=torch.int32)
        self.total(found)
        return bool(found)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in order; tensors in them must be on the CPU."""
        if self.count == 1:
            return [value]
        from torch import distributed

        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, value)
        return found


ALONE = Processes()


def started() -> int:
    """Return how many processes the launcher started, as it says in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def started_as_main() -> bool:
    """Tell whether the launcher says that this process is the first."""
    return int(os.environ.get("RANK", "0")) == 0


def join(device: str = "auto") -> Processes:
    """Meet the other processes that the launcher started, if it started any.

    Args:
        device: the device that was asked for; on `cpu` they meet there even beside a GPU.

    Raises:
        ConfigError: the launcher started several, but they do not find each other.
    """
    if started() == 1:
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    if state.num_processes != started():
        raise ConfigError(
            f"{started()} processes were started, but {state.num_processes} run together.",
            hint="Start them with `accelerate launch` or `torchrun`.",
        )
    return Processes(state.process_index, state.num_processes, state.device)
