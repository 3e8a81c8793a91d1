"""The log of a training has every step once, whatever happened to the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puma_cli.distillation.log import TrainingLog, read_log


@pytest.fixture
def log(tmp_path: Path) -> TrainingLog:
    made = TrainingLog(tmp_path / "log.jsonl")
    made.append(0, {"teacher_hit@1": 0.5})
    for step in (1, 10, 20):
        made.append(step, {"loss": 1 / (step + 2)})
    return made


def test_lines_come_back_bit_for_bit(log: TrainingLog) -> None:
    assert read_log(log.path)[1:] == [{"step": s, "loss": 1 / (s + 2)} for s in (1, 10, 20)]


@given(step=st.integers(0, 25))
def test_lines_after_the_saved_step_go(step: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = TrainingLog(tmp_path_factory.mktemp("log") / "log.jsonl")
    for logged in (0, 1, 10, 20):
        made.append(logged, {"loss": 0.1})
    made.rewind(step)
    assert [row["step"] for row in read_log(made.path)] == [s for s in (0, 1, 10, 20) if s <= step]


def test_nothing_is_written_where_nothing_goes(log: TrainingLog) -> None:
    before = log.path.stat()
    log.rewind(20)
    after = log.path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_line_that_was_cut_off_spoils_no_other(log: TrainingLog) -> None:
    with log.path.open("a") as file:
        file.write('{"step": 30, "lo')
    assert [row["step"] for row in read_log(log.path)] == [0, 1, 10, 20]
    log.rewind(20)
    log.append(30, {"loss": 0.2})
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()][-1] == 30


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.jsonl")
    log.rewind(0)
    assert read_log(log.path) == [] and not log.path.exists()
