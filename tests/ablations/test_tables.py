"""Tables say what the lines do, by a naive count, and the committed ones are up to date."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ablations.grid import QUESTIONS, Question, Run, Setup, read_questions, read_setup
from ablations.page import section, write_pages
from ablations.paired import compare
from ablations.records import RESULTS, append, packed, read_results, unpacked
from ablations.tables import say_layers

from puma_cli.errors import DataError

TASKS = ("x_task0", "x_task1")


@pytest.fixture
def setup(asked: Path) -> Setup:
    return read_setup(asked / "setup.yaml")


@pytest.fixture
def question(asked: Path, setup: Setup) -> Question:
    return read_questions(setup, asked / "questions")["x"]


def ranks_of(run: Run, task: str) -> np.ndarray:
    generator = np.random.default_rng(int(run.key[:8], 16) + TASKS.index(task))
    return generator.integers(0, 3, size=17)


def fill(folder: Path, runs: list[Run], split: str = "val", **odd: str) -> None:
    """Write lines as the driver does."""
    for run in runs:
        ranks = {task: packed(ranks_of(run, task)) for task in TASKS}
        hits = {
            "key": run.key, "split": split, "ranks": {"local": ranks}, "wrong": {},
            "queries": {task: odd.get("queries", "q") for task in TASKS},
        }  # fmt: skip
        append(folder / "hits.jsonl", hits)
        line = {
            "key": run.key, "split": split, **run.as_json(), "layers": [0, 1],
            "scores": {"local": {}}, "per_task": dict.fromkeys(TASKS, 0.0),
            "chance": dict.fromkeys(TASKS, 0.1), "machine": "m",
            "made_from": {"data": odd.get("data", "d"), "model": "m"},
            "train_seconds": 60.0 * (1 + run.seed),
        }  # fmt: skip
        append(folder / "runs.jsonl", line)


def every_run(question: Question) -> list[Run]:
    runs = [run for row in question.rows for run in row.runs]
    return [replace(runs[-1], cut="whole"), *runs]


def hit(runs: tuple[Run, ...]) -> list[np.ndarray]:
    return [np.stack([ranks_of(run, task) == 1 for run in runs]).astype(float) for task in TASKS]


def test_a_row_says_what_a_naive_count_does(
    question: Question, setup: Setup, tmp_path: Path
) -> None:
    fill(tmp_path / "r", every_run(question))
    lines = section(question, setup, read_results(tmp_path / "r"), tmp_path / "r")
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in lines if "|" in line}
    base, taught = question.rows[0], question.rows[1]
    expected = compare(hit(taught.runs), hit(base.runs))
    low, high = expected.difference_interval
    mean = np.mean([ranks_of(run, task) == 1 for run in taught.runs for task in TASKS])
    assert rows["taught"][3].startswith(f"{100 * mean:.1f} (")
    assert rows["taught"][4].strip("*") == (
        f"{100 * expected.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    )
    full = np.mean([ranks_of(every_run(question)[0], task) == 1 for task in TASKS])
    assert rows["taught"][5].startswith(f"{100 * mean / full:.1f}% (")
    # Two seeds of 60 and 120 seconds.
    assert rows["taught"][2] == "2" and rows["taught"][6] == "1:30 min |"
    assert rows["untrained"][2] == "–" and rows["nobody"][4] == "–"


def test_a_missing_seed_is_said_and_the_pairs_that_are_there_count(
    question: Question, setup: Setup, tmp_path: Path
) -> None:
    runs = every_run(question)
    fill(tmp_path / "r", [run for run in runs if run.key != question.rows[1].runs[1].key])
    lines = section(question, setup, read_results(tmp_path / "r"), tmp_path / "r")
    (taught,) = [line for line in lines if line.startswith("| taught")]
    alone = compare(hit(question.rows[1].runs[:1]), hit(question.rows[0].runs[:1]))
    assert "| 1 of 2 |" in taught and f"{100 * alone.difference:+.1f} (" in taught


def test_what_was_made_from_other_data_is_not_compared(
    question: Question, setup: Setup, tmp_path: Path
) -> None:
    first, *rest = every_run(question)
    fill(tmp_path / "r", [first], data="another draw")
    fill(tmp_path / "r", rest)
    with pytest.raises(DataError, match="different contents of their data"):
        section(question, setup, read_results(tmp_path / "r"), tmp_path / "r")
    fill(tmp_path / "s", [first], queries="others")
    fill(tmp_path / "s", rest)
    with pytest.raises(DataError, match="different queries"):
        section(question, setup, read_results(tmp_path / "s"), tmp_path / "s")


def test_pages_are_written_once_and_checked(
    question: Question, setup: Setup, tmp_path: Path
) -> None:
    folder = tmp_path / "docs" / "ablations"
    fill(folder, every_run(question))
    readme = folder.parent / "README.md"
    readme.write_text("A\n<!-- ablations: x -->\nold\n<!-- end of ablations -->\nB\n")
    names = {"ablations.md", "README.md", "x-tiny.svg"}
    assert {path.name for path in write_pages([question], setup, folder, check=True)} == names
    assert not (folder.parent / "ablations.md").exists()
    assert {path.name for path in write_pages([question], setup, folder)} == names
    assert write_pages([question], setup, folder, check=True) == []
    text = readme.read_text()
    assert "old" not in text and text.startswith("A\n") and text.endswith("B\n")
    assert "| taught |" in text
    # A number that somebody changes by hand, and a line that is gone, are seen.
    page = folder.with_suffix(".md")
    page.write_text(page.read_text().replace("| taught |", "| taught! |"))
    assert write_pages([question], setup, folder, check=True) == [page]


def test_the_committed_tables_are_those_of_the_committed_lines() -> None:
    setup = read_setup()
    changed = write_pages(list(read_questions(setup, QUESTIONS).values()), setup, RESULTS, True)
    assert changed == [], "run `python benchmarks/ablations tables` and commit what it writes"


def test_ranks_survive_packing() -> None:
    ranks = np.array([0, 1, 2, 9, 10, 20, 21, 500])
    np.testing.assert_array_equal(unpacked(packed(ranks)), [0, 1, 2, 9, 10, 20, 0, 0])


def test_a_line_that_was_cut_off_is_replaced_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    append(path, {"a": "é"})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"b": ')
    append(path, {"c": 3})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": "é"}, {"c": 3}]


def test_layers_are_said_in_short() -> None:
    assert say_layers([0, 1, 2, 11]) == "0-2,11"
    assert say_layers([0, 4, 7, 11]) == "0,4,7,11"
