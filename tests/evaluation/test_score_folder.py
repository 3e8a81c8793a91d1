"""Scores written and read again, and files that are broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from puma_cli.errors import DataError
from puma_cli.evaluation.results import METRICS, Scores
from puma_cli.evaluation.score_folder import read_scores, results_table, write_scores
from puma_cli.evaluation.scoring import evaluate_embedder
from tests.evaluation.small import Circle, small_data


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    data = small_data(tmp_path / "data")
    return evaluate_embedder(Circle(), data, pools=("local", "union"), model="circle")


@pytest.fixture
def folder(tmp_path: Path, scores: Scores) -> Path:
    path = tmp_path / "scores"
    path.mkdir()
    write_scores(path, scores)
    return path


def test_what_is_read_is_what_was_written(scores: Scores, folder: Path) -> None:
    again = read_scores(folder)
    for name in ("model", "data", "split", "tasks", "instruction", "seed", "limit", "partial"):
        assert getattr(again, name) == getattr(scores, name)
    assert again.means == scores.means
    for before, after in zip(scores.rows, again.rows, strict=True):
        for name, value in vars(before).items():
            if name != "metrics":
                assert np.array_equal(value, getattr(after, name)), name


def test_metrics_follow_from_the_lines(folder: Path) -> None:
    """Anybody can recompute the table from per_query.jsonl without this project."""
    lines = [json.loads(text) for text in (folder / "per_query.jsonl").read_text().splitlines()]
    content = json.loads((folder / "scores.json").read_text())
    for row in content["rows"]:
        mine = [x for x in lines if (x["task"], x["pool"]) == (row["task"], row["pool"])]
        assert len(mine) == row["queries"]
        for k in (1, 5, 10):
            hits = [1 <= line["rank"] <= k for line in mine]
            assert row["metrics"][f"hit@{k}"] == sum(hits) / len(mine)
        assert set(row["metrics"]) == set(METRICS)
    for pool, means in content["means"].items():
        rows = [row["metrics"]["hit@1"] for row in content["rows"] if row["pool"] == pool]
        assert means["hit@1"] == pytest.approx(sum(rows) / len(rows))


def test_the_benchmark_table(scores: Scores, folder: Path) -> None:
    text = (folder / "results.tsv").read_text()
    assert text == results_table(scores)
    lines = [line.split("\t") for line in text.splitlines()]
    header = "TaskID Task Dataset Split Metric CandPool Value UnionPool UnionValue"
    assert lines[0] == header.split()
    assert lines[1][:8] == [
        "0",
        "text -> image",
        "tiny",
        "test",
        "Recall@1",
        "tiny_task0",
        "0.500000",
        "union",
    ]
    assert len(lines) == 1 + 2 * 3
    assert {len(line) for line in lines} == {9}


def test_a_pool_that_was_not_searched_leaves_its_columns_empty(tmp_path: Path) -> None:
    data = small_data(tmp_path / "data")
    table = results_table(evaluate_embedder(Circle(), data, pools=("union",), k=7))
    cells = [line.split("\t") for line in table.splitlines()[1:]]
    assert all(line[5:7] == ["", ""] and line[7] == "union" for line in cells)
    assert [line[4] for line in cells][:4] == ["Recall@1", "Recall@5", "Recall@7", "Recall@10"]


def test_a_folder_without_scores_is_told_from_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no scores"):
        read_scores(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        read_scores(tmp_path / "nowhere")


def test_a_broken_line_is_named(folder: Path) -> None:
    path = folder / "per_query.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:20]
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"per_query\.jsonl`, line 3"):
        read_scores(folder)


def test_lost_and_changed_lines_are_noticed(folder: Path) -> None:
    path = folder / "per_query.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="disagree"):
        read_scores(folder)
    path.write_text(whole.replace('"rank": 3', '"rank": 1', 1))
    with pytest.raises(DataError, match="disagree"):
        read_scores(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1, "rows": 3}', '{"format": 99}'])
def test_a_broken_summary_is_an_error(folder: Path, text: str) -> None:
    (folder / "scores.json").write_text(text)
    with pytest.raises(DataError, match=r"scores\.json"):
        read_scores(folder)


def test_a_missing_half_is_an_error(folder: Path) -> None:
    (folder / "per_query.jsonl").unlink()
    with pytest.raises(DataError, match="broken"):
        read_scores(folder)
