"""Records out of JSON: what is built, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import pytest

from puma_cli.profiling.records import build


@dataclass(frozen=True)
class Inner:
    """A record inside another."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Outer:
    """One field of every kind that profiles use."""

    count: int
    partial: bool
    grid: tuple[tuple[float, ...], ...]
    parts: tuple[Inner, ...]
    scores: dict[str, dict[str, tuple[float, ...]]]
    best: Inner | None = None


RECORD = Outer(
    3,
    False,
    ((0.5, 1.0), (2.0,)),
    (Inner("a", (None, 0.25)),),
    {"x": {"hit@1": (0.0, 1.0)}},
    Inner("b", ()),
)


def plain() -> dict:
    return json.loads(json.dumps(asdict(RECORD)))


def test_a_record_survives_json() -> None:
    assert build(Outer, plain()) == RECORD
    assert build(Outer, {**plain(), "best": None}).best is None


def test_whole_numbers_are_read_as_floats_where_floats_stand() -> None:
    found = build(Outer, {**plain(), "grid": [[1]]})
    assert found.grid == ((1.0,),) and isinstance(found.grid[0][0], float)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", 1.5),
        ("count", True),
        ("partial", 1),
        ("grid", [["a"]]),
        ("grid", {"0": []}),
        ("grid", [[None]]),
        ("grid", [[True]]),
        ("parts", [{"name": "a"}]),
        ("parts", [{"name": "a", "values": [], "more": 1}]),
        ("parts", None),
        ("scores", [1]),
        ("best", "b"),
    ],
)
def test_another_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(TypeError):
        build(Outer, {**plain(), key: value})


@pytest.mark.parametrize("change", [{"odd": 1}, {}])
def test_keys_must_be_exactly_the_fields(change: dict) -> None:
    content = {**plain(), **change}
    if not change:
        del content["count"]
    with pytest.raises(TypeError, match="does not fit"):
        build(Outer, content)
