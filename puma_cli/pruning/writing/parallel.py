"""Running many small pieces of input and output in a few threads that can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from threading import Event

# More do not make a disk or a memory bus faster.
THREADS = 4

Job = Callable[[Event], None]


@contextmanager
def running(jobs: Sequence[Job], threads: int = THREADS) -> Iterator[Iterator[None]]:
    """Run `jobs` in threads; give an iterator that yields once for each job that is done.

    Leaving the context before the iterator's end, by an interruption for instance, stops the jobs:
    those that wait never start, and none runs on after the context.

    Args:
        jobs: each is called with an event, and returns soon after that event is set.
        threads: how many run at once (>= 1).

    Raises:
        Exception: what the first job to fail raised, from the iterator.
    """
    stop = Event()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="puma")
    try:
        yield _done([pool.submit(job, stop) for job in jobs])
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _done(futures: Sequence[Future[None]]) -> Iterator[None]:
    for future in as_completed(futures):
        future.result()
        yield
