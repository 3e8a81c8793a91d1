"""Processes that decode and resize images ahead of whoever needs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import local
from typing import IO, TypeVar

from PIL import Image

from puma_cli.models.image_worker import HEADER
from puma_cli.models.inputs import Input

T = TypeVar("T")

AUTO = -1
# Where decoding on a thread of this process would keep the device waiting: a process costs the time
# of some dozens of images to start, and takes a core.
MANY_IMAGES, LARGE_PIXELS, FEW_CORES, MOST = 256, 512 * 512, 4, 8
_LOOKED_AT = 32
# Batches whose images are asked for before they are needed.
AHEAD = 3


def worker_count(asked: int, images: Sequence[Path], sharing: int = 1) -> int:
    """Return how many processes should decode some images; 0 for a thread of this one.

    `AUTO` is half of the cores, 8 at most, for 256 images or more of 512 x 512 pixels in the mean
    on a machine of 4 cores or more, and 0 otherwise.

    Args:
        asked: a number, or `AUTO`.
        sharing: processes on this machine that share its cores (>= 1).
    """
    if asked != AUTO:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    own = (cores or 1) // sharing
    if own < FEW_CORES or len(images) < MANY_IMAGES:
        return 0
    sample = [images[n * len(images) // _LOOKED_AT] for n in range(_LOOKED_AT)]
    if sum(map(_pixels, sample)) < LARGE_PIXELS * len(sample):
        return 0
    return min(MOST, own // 2)


class ImageWorkers:
    """Some processes that decode images; they end with this one, whatever ends it.

    Args:
        count: how many (>= 1).
        request: how they resize: `factor`, `least`, `most` and `resample` of `fitting_size`.
    """

    def __init__(self, count: int, request: dict[str, int]) -> None:
        self._request = request
        self._own = local()
        self._processes: list[subprocess.Popen[bytes]] = []
        # A thread for each process, which waits for it.
        self._pool = ThreadPoolExecutor(count, "images")
        self._asked: dict[Path, Future[Image.Image | None]] = {}
        self._ever: set[Path] = set()

    def ask(self, images: Iterable[Path]) -> None:
        """Have images decoded; one that comes again is remembered elsewhere, or read there."""
        for image in images:
            if image not in self._ever:
                self._ever.add(image)
                self._asked[image] = self._pool.submit(self._decode, image)

    def take(self, image: Path) -> Image.Image | None:
        """Return an image that was asked for, once, or None if nobody can decode it."""
        waiting = self._asked.pop(image, None)
        return None if waiting is None else waiting.result()

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._pool.shutdown()
        for process in self._processes:
            process.wait()
            for end in (process.stdin, process.stdout):
                with suppress(OSError):
                    _there(end).close()
        self._asked.clear()

    def _decode(self, image: Path) -> Image.Image | None:
        try:
            process = self._process()
            requests, replies = _there(process.stdin), _there(process.stdout)
            request = {"path": str(image), **self._request}
            requests.write(json.dumps(request).encode() + b"\n")
            requests.flush()
            width, height, length = HEADER.unpack(_exactly(replies, HEADER.size))
            pixels = _exactly(replies, length)
        except (OSError, ValueError, EOFError):
            # It is gone; whoever takes the image decodes it, and the next has a new process.
            self._own.process = None
            return None
        return Image.frombytes("RGB", (width, height), pixels) if pixels else None

    def _process(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] | None = getattr(self._own, "process", None)
        if process is None:
            process = subprocess.Popen(
                [sys.executable, "-m", "puma_cli.models.image_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                # Ctrl-C is for the one that started it.
                start_new_session=True,
            )
            self._processes.append(process)
            self._own.process = process
        return process


def asked_ahead(
    plan: Iterable[T],
    inputs: Sequence[Input],
    workers: Callable[[], ImageWorkers | None],
    places: Callable[[T], Sequence[int]],
) -> Iterator[T]:
    """Yield the items of a plan, the images of some more of them being decoded meanwhile.

    Args:
        inputs: what the plan is of.
        workers: returns who decodes, if anybody does.
        places: tells which of them an item needs.
    """
    waiting: list[T] = []
    for item in plan:
        now = workers()
        if now is None:
            yield item
            continue
        some = [inputs[place] for place in places(item)]
        now.ask(e.image for e in some if e.image is not None and e.view is None)
        waiting.append(item)
        if len(waiting) > AHEAD:
            yield waiting.pop(0)
    yield from waiting


def _pixels(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return image.size[0] * image.size[1]
    except Exception:  # said clearly where the image is needed
        return 0


def _exactly(stream: IO[bytes], length: int) -> bytes:
    found = stream.read(length)
    if len(found) < length:
        raise EOFError
    return found


def _there(end: IO[bytes] | None) -> IO[bytes]:
    assert end is not None
    return end
