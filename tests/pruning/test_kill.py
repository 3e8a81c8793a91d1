"""A cut that is killed at any moment leaves its target absent or whole, and the next one copes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.pruning.kills import BEFORE, cut, random_kill, same, write_model

SIZE = 30_000_000  # bytes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("killed") / "model", SIZE)


@pytest.fixture(scope="module")
def room(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder with the two whole results, and the seconds that one takes."""
    room = tmp_path_factory.mktemp("room")
    cut(model, room / "before", BEFORE)
    return room, cut(model, room / "after")


def test_the_judge_tells_results_apart(room: tuple[Path, float]) -> None:
    before, after = room[0] / "before", room[0] / "after"
    assert same(after, after)
    assert not same(before, after)
    assert not same(room[0] / "absent", after)


@pytest.mark.parametrize(
    "seeds", [range(5), pytest.param(range(5, 60), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_killed_at_random_moments(model: Path, room: tuple[Path, float], seeds: range) -> None:
    for seed in seeds:
        found, wrong = random_kill(model, room[0], Random(seed), room[1])
        assert wrong == [], (seed, found)
