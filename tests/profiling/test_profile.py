"""The profile as a record and as a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from puma_cli.errors import CheckpointError
from puma_cli.profiling.profile import read_profile, write_profile
from tests.profiling.examples import FACTORS, SHAPE, profile


def test_written_and_read_back_unchanged(tmp_path: Path) -> None:
    made = profile()
    write_profile(made, tmp_path)
    assert read_profile(tmp_path) == replace(made, folder=tmp_path)


def test_means_over_tasks_and_inputs() -> None:
    made = profile()
    assert made.mean("hit@1")[4] == pytest.approx(SHAPE[4] * sum(FACTORS.values()) / 8)
    assert made.kept(12) == 1.0
    assert made.queries == 1600
    assert made.angular_to_final(12) == 0.0
    # Tokens besides the embed token do not count: what a cut keeps is read at that one.
    counts = [replace(entry, count=n) for n, entry in enumerate(made.similarity, start=1)]
    weighted = sum(n * e.block_influence[3] for n, e in enumerate(made.at_embed, start=1)) / 21
    assert len(made.at_embed) == 6 < len(made.similarity)
    assert replace(made, similarity=tuple(counts)).block_influence(3) == pytest.approx(weighted)


def test_retention_of_a_score_of_zero_is_unknown() -> None:
    made = profile()
    flat = replace(made.readout[0], scores={"first": {"hit@1": (0.0,) * 13}})
    assert replace(made, readout=(flat,)).kept(4) is None


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no profile\.json") as caught:
        read_profile(tmp_path)
    assert "no folder written by" in caught.value.cause
    with pytest.raises(CheckpointError) as caught:
        read_profile(tmp_path / "absent")
    assert "no such folder" in caught.value.cause


def damage(content: dict, how: str) -> None:
    if how == "format":
        content["format"] = 99
    elif how == "depth":
        content["choice"]["k"] = 13
    elif how == "length":
        content["readout"][0]["scores"]["first"]["hit@1"].pop()
    elif how == "type":
        content["costs"][0]["latency_query"] = "fast"
    elif how == "unknown":
        content["surprise"] = 1
    elif how == "missing":
        del content["choice"]


@pytest.mark.parametrize("how", ["format", "depth", "length", "type", "unknown", "missing"])
def test_damaged(tmp_path: Path, how: str) -> None:
    write_profile(profile(), tmp_path)
    path = tmp_path / "profile.json"
    content = json.loads(path.read_text())
    damage(content, how)
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_profile(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_no_json_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_profile(tmp_path)


@pytest.mark.parametrize(
    ("reading", "depths"),
    [("first", range(4)), ("bridged_to_full", range(1, 4)), ("keep_last_bridged", range(2, 4))],
)
def test_depths_that_say_something(reading: str, depths: range) -> None:
    assert replace(profile(), depth=3).depths(reading) == depths
    assert replace(profile(), depth=1).depths(reading)[-1] == 1


def test_the_recommended_layers() -> None:
    made = profile()
    assert (made.cut, made.layers) == ("first", (0, 1, 2, 3))
    last = replace(made, choice=replace(made.choice, keep_last=True))
    assert (last.cut, last.layers) == ("keep_last", (0, 1, 2, 11))
