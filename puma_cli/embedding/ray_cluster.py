"""A Ray cluster: reaching or starting it, and how many workers it has room for."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.errors import ConfigError, DeviceError, ProcessError

# Cores of a worker without a GPU, if its machine has so many.
_CORES = 4
# Bytes for what goes through Ray when puma starts it: numbers of shards, no vectors.
_STORE = 100 * 2**20
LOCAL = "local"
# Seconds in which the head of a cluster takes a connection.
_ANSWER = 20.0


@dataclass(frozen=True)
class Pool:
    """The workers of a run.

    Args:
        workers: how many (>= 1).
        cpus: cores of each.
        gpus: GPUs of each, 0 or 1.
        note: what the user should know of it.
    """

    workers: int
    cpus: int
    gpus: int
    note: str = ""

    @property
    def device(self) -> str:
        """What they compute on."""
        return "cuda" if self.gpus else "cpu"


def import_ray() -> Any:
    """Return Ray.

    Raises:
        ConfigError: it is not installed.
    """
    # Nothing is sent to Ray's makers unless the user says so.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What it says of its own working is in its logs; what the user can mend is told here.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            "--engine ray needs the package ray.",
            cause=str(error),
            hint="pip install 'puma-cli[ray]', on all machines of the cluster.",
        ) from error
    return ray


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Be connected to a cluster, or start one of this machine, as long as the context lasts.

    Args:
        address: `auto` or HOST:PORT; None for RAY_ADDRESS, or a cluster of its own.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    where = address or os.environ.get("RAY_ADDRESS") or LOCAL
    own: dict[str, Any] = {}
    if where == LOCAL:
        own = {"include_dashboard": False, "object_store_memory": _STORE}
    try:
        _knock(where)
        with _own_signals(), _without_stderr():
            ray.init(where, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ConfigError(
            f"No Ray cluster can be reached at {where}."
            if own == {}
            else "Ray does not start on this machine.",
            cause=first_line(error),
            hint="`ray start --head` starts one, and `ray start --address HOST:6379` joins it; "
            "--ray-address says where it is."
            if own == {}
            else "Without --engine ray, the inputs are embedded by one process.",
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError or ValueError where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=_ANSWER).close()
    elif address not in (LOCAL, "auto"):
        raise ValueError(f"An address is auto or HOST:PORT, not {address}.")


def plan_pool(settings: EmbedSettings) -> Pool:
    """Return which workers the cluster has room for.

    Raises:
        ConfigError: none of what is asked for.
        DeviceError: GPUs are asked for, and there are none.
    """
    ray = import_ray()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return pool_of(nodes, settings)


def pool_of(nodes: Sequence[dict[str, float]], settings: EmbedSettings) -> Pool:
    """Return which workers machines with such resources have room for.

    Raises:
        ConfigError, DeviceError: see `plan_pool`.
    """
    cores = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    on_gpus = sum(gpus) > 0 if settings.device == "auto" else settings.device.startswith("cuda")
    if on_gpus and not sum(gpus):
        raise DeviceError(
            f"The cluster has no GPU for device = {settings.device}.",
            hint="Use --device auto or --device cpu.",
        )
    if on_gpus:
        usual = min((c // g for c, g in zip(cores, gpus, strict=True) if g), default=1)
    else:
        usual = min((c for c in cores if c), default=1)
    cpus = settings.cpus_per_worker or max(1, min(usual, _CORES))
    room = sum(
        min(c // cpus, g) if on_gpus else c // cpus for c, g in zip(cores, gpus, strict=True)
    )
    if not room:
        most = f"{max(cores, default=0)} cores" + (f" and {max(gpus)} GPUs" if on_gpus else "")
        raise ConfigError(
            f"No machine of the cluster has room for a worker with cpus_per_worker = {cpus}.",
            cause=f"The largest has {most}.",
            hint="Choose a smaller --cpus-per-worker.",
        )
    workers = settings.workers or room
    note = ""
    if workers > room:
        note = (
            f"The cluster has room for {room} of {workers} workers now; the others start when it "
            "has more."
        )
    return Pool(workers, cpus, int(on_gpus), note)


@contextmanager
def workers_explained() -> Iterator[None]:
    """Tell of what Ray raises when workers fail."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        raise ProcessError(
            "The workers of the Ray cluster have failed.",
            cause=last_line(error),
            hint="Was one out of memory? Fewer --workers, or more --cpus-per-worker, leave each "
            "more. Whole shards are kept: the same command goes on from there.",
        ) from error


def first_line(error: BaseException) -> str:
    """Return what an error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def last_line(error: BaseException) -> str:
    """Return what an error says last, which of a worker's is what it failed of."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what Ray's own core writes to stderr while it starts; its errors are exceptions."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray would replace by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
