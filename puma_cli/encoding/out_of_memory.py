"""What to do when a device has no memory left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from puma_cli.errors import DeviceError


@contextmanager
def out_of_memory_explained(
    batch_size: int, otherwise: str = "--dtype float16 or --device cpu"
) -> Iterator[None]:
    """Turn a device's lack of memory into a DeviceError with remedies.

    Args:
        otherwise: what the command can do besides smaller batches.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"The device ran out of memory with batches of {batch_size}.",
            cause=str(error).splitlines()[0],
            hint=f"Try --batch-size {max(1, batch_size // 4)}, {otherwise}.",
        ) from error
