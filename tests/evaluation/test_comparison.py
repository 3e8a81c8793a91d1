"""Comparisons of score folders, and score folders that cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puma_cli.errors import ConfigError, DataError
from puma_cli.evaluation.bootstrap import Interval
from puma_cli.evaluation.comparison import Cell, compare
from puma_cli.evaluation.results import Scores, TaskScores
from puma_cli.evaluation.score_folder import write_scores
from puma_cli.evaluation.scoring import evaluate_embedder
from tests.evaluation.small import Circle, small_data


def write(folder: Path, ranks: Mapping[str, Sequence[int]], **changes: Any) -> Path:
    """Write a score folder with these first ranks for each task."""
    head: dict[str, Any] = {"split": "test", "instruction": "first", "seed": 0, "limit": None}
    own: dict[str, Any] = {"query_hash": "q", "pool_hash": "p", "k": 5, "available": 0}
    for name, value in changes.items():
        (head if name in head else own)[name] = value
    rows = []
    for task, values in ranks.items():
        count = len(values)
        fields = {**own, "available": max(count, own["available"])}
        rows.append(
            TaskScores(
                task=task,
                dataset="tiny",
                task_id=1,
                pool="local",
                candidates=50,
                missing=0,
                unanswerable=0,
                qids=tuple(f"9:{i}" for i in range(count)),
                ranks=np.array(values),
                ties=np.zeros(count, dtype=int),
                positives=np.ones(count, dtype=int),
                ndcg=np.array([1 / np.log2(r + 1) if 0 < r <= 10 else 0.0 for r in values]),
                **fields,
            )
        )
    folder.mkdir(parents=True)
    scores = Scores(model=folder.name, data="d", tasks="*", rows=tuple(rows), **head)
    write_scores(folder, scores)
    return folder


def bounds(cell: Cell) -> Interval:
    assert cell.retention_interval is not None
    return cell.retention_interval


TEACHER = {"a": [1] * 80 + [3] * 20, "b": [1, 2] * 30}
STUDENT = {"a": [1] * 70 + [4] * 30, "b": [2, 1] * 30}
CUT = {"a": [0] * 100, "b": [11] * 60}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    named = {"teacher": TEACHER, "student": STUDENT, "cut": CUT}
    return [write(tmp_path / name, ranks) for name, ranks in named.items()]


def test_scores_differences_and_retention(folders: list[Path]) -> None:
    result = compare(folders, resamples=2000)
    assert result.models == ("teacher", "student", "cut")
    assert [row.task for row in result.rows] == ["a", "b"]
    teacher, student, cut = result.mean.cells
    assert (teacher.score, student.score, cut.score) == pytest.approx((0.65, 0.6, 0))
    assert teacher.retention == 1
    assert teacher.retention_interval == (1, 1)
    assert teacher.difference_interval == (0, 0)
    assert student.retention == pytest.approx(0.6 / 0.65)
    assert student.difference == pytest.approx(-0.05)
    assert cut.retention == 0
    assert result.rows[0].cells[1].retention == pytest.approx(70 / 80)
    # On `a` the student misses what the teacher misses and ten more: pairing keeps it below 1.
    low, high = bounds(result.rows[0].cells[1])
    assert low < 70 / 80 < high < 1
    # On `b` the two share no hit, so the ratio is wide open.
    low, high = bounds(result.rows[1].cells[1])
    assert low < 0.7
    assert high > 1.4
    assert result.mean.queries == 160
    assert not result.partial


@pytest.mark.parametrize("metric", ["hit@1", "hit@5", "hit@k", "hit@3", "mrr@10", "ndcg@10"])
def test_every_metric_can_be_compared(folders: list[Path], metric: str) -> None:
    result = compare(folders, metric=metric, resamples=200)
    for row in (*result.rows, result.mean):
        for cell in row.cells:
            assert cell.score_interval.low <= cell.score + 1e-9
            assert cell.score <= cell.score_interval.high + 1e-9
    json.dumps(result.to_json(), allow_nan=False)


def test_a_seed_gives_the_same_result(folders: list[Path]) -> None:
    assert compare(folders, resamples=300, seed=1) == compare(folders, resamples=300, seed=1)
    assert compare(folders, resamples=300, seed=1) != compare(folders, resamples=300, seed=2)


def test_a_reference_that_scores_nothing_has_no_retention(folders: list[Path]) -> None:
    cell = compare(folders[::-1], resamples=200).mean.cells[2]
    assert cell.retention is None
    assert cell.retention_interval is None
    assert cell.difference == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "val"}, "split"),
        ({"query_hash": "other"}, "other queries of a"),
        ({"pool_hash": "other"}, "another pool"),
        ({"k": 10}, "K = 10"),
    ],
)
def test_other_queries_or_pools_are_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    folders = [write(tmp_path / "one", TEACHER), write(tmp_path / "two", STUDENT, **change)]
    with pytest.raises(DataError, match=words):
        compare(folders)


def test_other_tasks_are_refused_and_their_order_is_not_minded(tmp_path: Path) -> None:
    one = write(tmp_path / "one", TEACHER)
    fewer = write(tmp_path / "two", {"a": TEACHER["a"]})
    turned = write(tmp_path / "three", {"b": STUDENT["b"], "a": STUDENT["a"]})
    with pytest.raises(DataError, match="only one of them has b"):
        compare([one, fewer])
    assert compare([one, turned], resamples=100).mean.cells[1].score == pytest.approx(0.6)


def test_partial_scores_need_to_be_asked_for(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / name, ranks, limit=100, available=200)
        for name, ranks in (("one", TEACHER), ("two", STUDENT))
    ]
    with pytest.raises(DataError, match="partial: at most 100"):
        compare(folders)
    result = compare(folders, allow_partial=True, resamples=100)
    assert result.partial
    assert "Partial" in result.notes[0]


def test_differently_chosen_instructions_are_noted(tmp_path: Path) -> None:
    folders = [write(tmp_path / "one", TEACHER), write(tmp_path / "two", STUDENT, seed=1)]
    assert not compare(folders, resamples=100).notes
    folders.append(write(tmp_path / "three", STUDENT, instruction="seeded"))
    assert "instructions" in compare(folders, resamples=100).notes[0]


def test_illegal_arguments_are_refused(folders: list[Path]) -> None:
    for call in (
        lambda: compare(folders[:1]),
        lambda: compare(folders, resamples=10),
        lambda: compare(folders, metric="recall"),
    ):
        with pytest.raises(ConfigError):
            call()
    with pytest.raises(DataError, match="union"):
        compare(folders, pool="union")


def test_the_same_ids_in_another_data_set_are_not_the_same_queries(tmp_path: Path) -> None:
    """Regenerated data keep their ids; the hashes tell them apart."""
    folders = []
    for name, new in (("one", "13"), ("two", "13"), ("three", "13.5")):
        data = small_data(tmp_path / name / "data")
        for path in data.rglob("*task1_cand_pool.jsonl"):
            path.write_text(path.read_text().replace('"13"', f'"{new}"'))
        folders.append(tmp_path / name / "scores")
        folders[-1].mkdir()
        write_scores(folders[-1], evaluate_embedder(Circle(), data))
    assert compare(folders[:2], resamples=100).mean.cells[1].retention == 1
    with pytest.raises(DataError, match="another pool for tiny_task1"):
        compare([folders[0], folders[2]])
