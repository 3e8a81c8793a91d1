"""Jobs run side by side, and stop together."""

from __future__ import annotations

import threading
from threading import Barrier, Event

import pytest

from puma_cli.pruning.writing.parallel import Job, running


def puma_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("puma") and t.is_alive()]


def test_each_job_is_reported_once() -> None:
    ran: list[int] = []
    jobs: list[Job] = [lambda _, n=n: ran.append(n) for n in range(20)]  # type: ignore[misc]
    with running(jobs, threads=3) as done:
        assert len(list(done)) == 20
    assert sorted(ran) == list(range(20))
    with running([]) as done:
        assert not list(done)


def test_jobs_run_at_the_same_time() -> None:
    barrier = Barrier(3)

    def meet(_: Event) -> None:
        barrier.wait(10)

    with running([meet] * 3, threads=3) as done:
        assert len(list(done)) == 3


@pytest.mark.parametrize("reason", [KeyboardInterrupt, RuntimeError])
def test_leaving_early_stops_all_jobs(reason: type[BaseException]) -> None:
    started: list[int] = []
    first = Event()

    def job(stop: Event) -> None:
        started.append(1)
        first.set()
        assert stop.wait(30)

    def leave_early() -> None:
        with running([job] * 50, threads=2):
            assert first.wait(30)
            raise reason

    with pytest.raises(reason):
        leave_early()
    assert 1 <= len(started) <= 2
    assert not puma_threads()


def test_the_first_failure_is_raised_and_stops_the_others() -> None:
    stopped: list[bool] = []
    waiting = Event()

    def wait(stop: Event) -> None:
        waiting.set()
        stopped.append(stop.wait(30))

    def fail(stop: Event) -> None:
        assert waiting.wait(30)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), running([wait, fail, wait], threads=2) as done:
        list(done)
    assert stopped[0]
    assert not puma_threads()
