"""The processes that share one run, as started by `accelerate launch` or `torchrun`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from puma_cli.errors import ConfigError, PartnerError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")

# Names the descriptor of the socket on which the first of the processes that puma itself started
# shall wait for the others.
LISTENING = "PUMA_LISTENING_SOCKET"


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
            with _partners():
                distributed.all_reduce(there)
            tensor.copy_(there)

    def any(self, flag: bool) -> bool:
        """Tell whether any process says so."""
        return bool(self.most(int(flag))[0])

    def most(self, *numbers: int) -> tuple[int, ...]:
        """Return the largest of each number over all processes."""
        if self.count == 1:
            return numbers
        import torch
        from torch import distributed

        found = torch.tensor(numbers, dtype=torch.int64, device=self._device)
        with _partners():
            distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return tuple(found.tolist())

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """Return the rows (N, D) of all processes, in order, without their graphs.

        Args:
            counts: how many rows each process has.
        """
        if self.count == 1:
            return [rows.detach()]
        from torch import distributed

        # Collectives take equal shapes: shorter ones are padded, and cut again.
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        found = [rows.new_empty(padded.shape) for _ in range(self.count)]
        with _partners():
            distributed.all_gather(found, padded)
        return [part[:count] for part, count in zip(found, counts, strict=True)]

    def first(self, work: Callable[[], T]) -> T:
        """Let the main process do something, and return its result in all of them.

        Raises:
            PartnerError: in the others, if the work failed in the main one.
        """
        if self.count == 1:
            return work()
        result, failure = None, None
        if self.is_main:
            try:
                result = work()
            except BaseException as error:
                failure = error
        found, failed = self.gather((result, failure is not None))[0]
        if failure is not None:
            raise failure
        if failed:
            raise PartnerError("The first process has failed.", told=True)
        return found  # type: ignore[return-value]

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.most(0)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in order; tensors in them must be on the CPU."""
        if self.count == 1:
            return [value]
        from torch import distributed

        found: list[Any] = [None] * self.count
        with _partners():
            distributed.all_gather_object(found, value)
        return found


@contextmanager
def _partners() -> Iterator[None]:
    """Say in plain words that another process did not take its part in an exchange."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise PartnerError(
            "Another process of this run is gone.",
            cause=str(error).strip().splitlines()[0] if str(error).strip() else "",
            hint="What it said before it went is above, or in its own log.",
        ) from error


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

    from puma_cli.models.devices import choose_device

    state = PartialState(cpu=choose_device(device).type == "cpu", **_meeting())
    if state.num_processes != started():
        raise ConfigError(
            f"{started()} processes were started, but {state.num_processes} run together.",
            hint="Start them with `accelerate launch` or `torchrun`.",
        )
    return Processes(state.process_index, state.num_processes, state.device)


def end_process(code: int) -> NoReturn:
    """Exit; one of several processes without taking the interpreter apart.

    Threads that carried an exchange may still be letting go of its tensors, for which they need the
    interpreter: if that is being taken apart, they abort the process.
    """
    if started() == 1:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        # A pipe that nobody reads any more.
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _meeting() -> dict[str, Any]:
    """Return where the processes meet; empty if a launcher other than puma's own has settled it."""
    from torch import distributed

    # A process that has met the others stays with them: nobody waits on the socket any more.
    if LISTENING not in os.environ or distributed.is_initialized():
        return {}
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    place, count = int(os.environ["RANK"]), started()
    first: dict[str, Any] = {
        "is_master": True,
        "master_listen_fd": int(os.environ[LISTENING]),
    }
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        count,
        wait_for_workers=False,
        **({} if place else first),
    )
    return {"store": store, "rank": place, "world_size": count}
