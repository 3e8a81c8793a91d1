"""One batch is prepared ahead, on another thread, and nothing else changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from puma_cli.models.read_ahead import read_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_all_come_in_order(count: int) -> None:
    assert list(read_ahead(range(count), lambda n: n * n)) == [n * n for n in range(count)]


def test_one_is_prepared_while_the_caller_works() -> None:
    begun = [threading.Event() for _ in range(3)]
    names = set()

    def prepare(number: int) -> int:
        begun[number].set()
        names.add(threading.current_thread().name)
        return number

    source = read_ahead(range(3), prepare)
    assert next(source) == 0
    assert begun[1].wait(10)
    assert not begun[2].is_set()
    assert list(source) == [1, 2]
    assert threading.current_thread().name not in names


def test_items_are_read_on_the_caller_s_thread() -> None:
    def items() -> Iterator[str]:
        for _ in range(3):
            yield threading.current_thread().name

    assert set(read_ahead(items(), str)) == {threading.current_thread().name}


def test_an_error_comes_when_its_turn_has_come() -> None:
    def prepare(number: int) -> float:
        return 1 / (2 - number)

    source = read_ahead(range(4), prepare)
    assert [next(source), next(source)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(source)


def test_a_caller_who_leaves_takes_the_thread_along() -> None:
    prepared = []
    source = read_ahead(range(100), lambda n: prepared.append(n))
    next(source)
    source.close()
    assert len(prepared) <= 2
    assert not [one for one in threading.enumerate() if one.name.startswith("read-ahead")]
