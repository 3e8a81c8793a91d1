"""Runs that are done, skipped, stopped and gone on with, by real processes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ablations.app import main
from ablations.driver import perform
from ablations.grid import read_questions, read_setup
from ablations.processes import locked
from ablations.records import read_results
from ablations.workplace import Workplace


@pytest.fixture
def there(asked: Path) -> list[str]:
    """Where results and all else go; trainings in this process, which has torch loaded."""
    folders = ["--results", str(asked / "results"), "--work-dir", str(asked / "work")]
    return [*folders, "--device", "cpu", "--together"]


def test_runs_are_done_once_and_scored_query_by_query(
    words: list[str], asked: Path, there: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "run", *there]) == 0
    said = capsys.readouterr().out
    assert "6 runs done, 0 left, 0 failed." in said
    found = read_results(asked / "results")
    assert len(found.lines) == 6 == len({key for key, _ in found.lines})
    for (key, split), line in found.lines.items():
        hits = found.hits[key, split]
        values = hits.values("hit@1")
        assert line["scores"]["local"]["hit@1"] == pytest.approx(
            np.mean([each.mean() for each in values.values()])
        )
        union = [text.count("1") / len(text) for text in hits.wrong.values()]
        assert line["scores"]["union"]["hit@1"] == pytest.approx(np.mean(union))
        assert line["per_task"] == pytest.approx({t: v.mean() for t, v in values.items()})
        if line["trainer"]:
            assert line["steps"] == 3 and line["command"].startswith("puma distill ")
    # Nothing is left, and nothing is done again.
    assert main([*words, "run", *there]) == 0
    assert "0 of 6 runs are left" in capsys.readouterr().out


def test_a_training_without_time_left_goes_on_the_next_time(
    words: list[str], asked: Path, there: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _one_variant(asked, "taught: {set: {train.steps: 200}}")
    setup = read_setup(asked / "setup.yaml")
    (question,) = read_questions(setup, asked / "questions").values()
    runs = [row.runs[0] for row in question.rows]
    training = asked / "work" / "students" / runs[0].trained_key / "training"
    states: list[Path] = []
    # How long a first step takes to come is the machine's business.
    for minutes in itertools.count(0.02, 0.02):
        left = partial(float, 2 + minutes)
        place = Workplace(asked / "work", setup, "cpu", limit=left, apart=False)
        done = perform(runs, "val", place, asked / "results", print)
        assert (done.finished, done.left) == (0, 1)
        assert "stopped, with its state saved" in capsys.readouterr().out
        if states := list(training.glob("state-*")):
            break
    (state,) = states
    assert 0 < int(state.name.removeprefix("state-")) < 200
    assert main([*words, "run", *there]) == 0
    line = read_results(asked / "results").lines[runs[0].key, "val"]
    assert line["steps"] == 200


def test_a_run_that_fails_is_told_and_the_others_are_done(
    words: list[str], asked: Path, there: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = "bad: {set: {loss.hints: 1.0, loss.hint_depths: '9'}}"
    _one_variant(asked, f"{bad}\n  fine: {{train: none}}")
    assert main([*words, "run", *there]) == 1
    said = capsys.readouterr().out
    assert "loss.hint_depths names 9" in said and "2 runs done, 1 left, 1 failed." in said


def test_test_is_for_chosen_variants_and_scored_once(
    words: list[str], asked: Path, there: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _one_variant(asked, "a: {train: none}\n  b: {train: none, cut: first 1}", "test: [b]\n")
    assert main([*words, "run", *there, "--split", "test"]) == 0
    found = read_results(asked / "results")
    assert {split for _, split in found.lines} == {"test"}
    assert sorted(len(line["layers"]) for line in found.lines.values()) == [1, 4]
    assert main([*words, "run", *there, "--split", "test"]) == 0
    assert "0 of 2 runs are left on test" in capsys.readouterr().out


def test_two_drivers_do_not_share_a_run(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _one_variant(asked, "a: {train: none}")
    setup = read_setup(asked / "setup.yaml")
    (question,) = read_questions(setup, asked / "questions").values()
    run = question.rows[0].runs[0]
    place = Workplace(asked / "work", setup, "cpu")
    with locked(asked / "work" / "locks" / f"run-{run.trained_key}") as ours:
        assert ours
        done = perform([run], "val", place, asked / "results", print)
    assert (done.finished, done.left) == (0, 1)
    assert "another process is at it" in capsys.readouterr().out


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_where_it_was(words: list[str], asked: Path) -> None:
    """Its lock lives on in its training, beside which no other driver begins one."""
    _one_variant(asked, "taught: {set: {train.steps: 400, train.save_every: 5}}")
    driver = Path(__file__).parents[2] / "benchmarks" / "ablations"
    command = [sys.executable, str(driver), *words, "run", "--device", "cpu"]
    command += ["--results", str(asked / "results"), "--work-dir", str(asked / "work")]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    (question,) = read_questions(read_setup(asked / "setup.yaml"), asked / "questions").values()
    run = question.rows[0].runs[0]
    student = asked / "work" / "students" / run.trained_key
    _wait(lambda: any((student / "training").glob("state-*")))
    first.kill()
    first.wait()
    lock = asked / "work" / "locks" / f"run-{run.trained_key}"
    assert not _is_free(lock)
    os.killpg(first.pid, signal.SIGKILL)
    _wait(lambda: _is_free(lock))
    (state,) = sorted((student / "training").glob("state-*"))[-1:]
    before = int(state.name.removeprefix("state-"))
    assert 0 < before < 400
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    line = read_results(asked / "results").lines[run.key, "val"]
    assert line["steps"] == 400 and line["peak_memory"] > 50e6
    logs = "".join(path.read_text() for path in (asked / "work").glob("log-*.txt"))
    assert f"going on from step {before}" in logs


def _wait(ready: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.2)


def _is_free(path: Path) -> bool:
    with locked(path, wait=False) as ours:
        return ours


def _one_variant(asked: Path, variants: str, further: str = "") -> None:
    text = f"title: t\ndata: {{tiny: {{seeds: [0]}}}}\nvariants:\n  {variants}\n{further}"
    (asked / "questions" / "x.yaml").write_text(text)
