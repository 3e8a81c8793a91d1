"""Preparing the next batch while the present one is computed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(items: Iterable[T], prepare: Callable[[T], R]) -> Generator[R, None, None]:
    """Yield `prepare(item)` for all items in order, one of them ahead on a thread of its own.

    Decoding and cutting images keeps a processor core busy, and leaves the others, or the
    accelerator, idle. `items` is read on the caller's thread. What `prepare` raises is raised when
    its turn has come.
    """
    pool = ThreadPoolExecutor(1, "read-ahead")
    waiting: Future[R] | None = None
    try:
        for item in items:
            following = pool.submit(prepare, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
    finally:
        pool.shutdown(cancel_futures=True)
