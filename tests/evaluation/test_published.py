"""Published numbers stand beside ours only where both followed the same protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puma_cli.data.mmeb.names import IMAGE_SETS
from puma_cli.errors import DataError
from puma_cli.evaluation.comparison import compare
from puma_cli.evaluation.published import _tables, published_beside
from puma_cli.evaluation.results import Scores, TaskScores
from puma_cli.evaluation.score_folder import write_scores

TASKS = {entry["task"]: entry for entry in _tables()[0]["tasks"]}


def row(task: str, pool: str = "local", **changes: Any) -> TaskScores:
    entry = TASKS.get(task, {"k": 1, "queries": 1000, "candidates": 9000})
    size = changes.pop("queries", entry["queries"])
    own: dict[str, Any] = {"k": entry["k"], "candidates": entry["candidates"], "available": size}
    own |= changes
    return TaskScores(
        task=task,
        dataset=task.split("_")[0],
        task_id=0,
        pool=pool,
        missing=0,
        unanswerable=0,
        query_hash="q",
        pool_hash="p",
        qids=tuple(str(i) for i in range(size)),
        ranks=np.arange(size) % 20 + 1,
        ties=np.zeros(size, dtype=int),
        positives=np.ones(size, dtype=int),
        ndcg=np.zeros(size),
        **own,
    )


def scores(*rows: TaskScores, **changes: Any) -> Scores:
    head: dict[str, Any] = {"model": "ours", "data": "d", "split": "test", "tasks": "*"}
    head |= {"instruction": "seeded", "seed": 0, "limit": None}
    return Scores(rows=rows, **(head | changes))


def test_the_shipped_table_is_whole_and_its_means_are_those_of_its_rows() -> None:
    assert len(TASKS) == 16
    for table in _tables():
        for model in table["models"]:
            assert model["source"] and model["pool"]
            if model["values"]:
                assert set(model["values"]) == set(TASKS)
                assert np.mean(list(model["values"].values())) == pytest.approx(
                    model["mean"], abs=0.051
                )


def test_the_same_protocol_stands_beside_them() -> None:
    some = published_beside(scores(row("cirr_task7"), row("nights_task4")), "hit@k")
    assert (some.tasks, some.whole, some.notes) == (("cirr_task7", "nights_task4"), False, ())
    assert {m.model: m.values["cirr_task7"] for m in some.models}["BLIP_FF"] == 0.522
    assert some.to_json()["models"][0]["mean"] is None
    first = published_beside(scores(row("cirr_task7"), instruction="first"), "hit@k")
    assert "prompts" in first.notes[0]


@pytest.mark.parametrize(
    ("other", "metric", "pool", "words"),
    [
        (scores(row("cirr_task7")), "hit@1", "local", "hit@1 was asked for"),
        (scores(row("cirr_task7"), split="val"), "hit@k", "local", "split 'val'"),
        (scores(row("cirr_task7", available=5000), limit=4170), "hit@k", "local", "partial"),
        (scores(row("cirr_task7"), skipped={"rows": 3}), "hit@k", "local", "partial"),
        (scores(row("cirr_task7"), hubness_penalty=0.2), "hit@k", "local", "transductive"),
        (scores(row("cirr_task7", queries=4169)), "hit@k", "local", "queries 4,169"),
        (scores(row("cirr_task7", candidates=9)), "hit@k", "local", "candidates 9"),
        (scores(row("cirr_task7", k=1)), "hit@k", "local", "K 1"),
        (scores(row("scenes_task0")), "hit@k", "local", "no row of M-BEIR"),
        (scores(row("a"), protocol="pairs"), "hit@k", "local", "pairs"),
        (
            scores(row("cirr_task7", "union", candidates=5_609_079)),
            "hit@k",
            "union",
            "only the mean",
        ),
        (scores(row("MSCOCO"), protocol="mmeb"), "hit@1", "local", "only the mean"),
        (scores(row("MSCOCO", queries=10), protocol="mmeb"), "hit@1", "local", "10 queries"),
    ],
)
def test_other_protocols_are_refused(other: Scores, metric: str, pool: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        published_beside(other, metric, pool)
    assert caught.value.hint


def test_all_sets_of_mmeb_have_a_mean_beside_them() -> None:
    found = published_beside(scores(*map(row, IMAGE_SETS), protocol="mmeb"), "hit@1")
    assert (found.whole, found.tasks) == (True, ())
    assert {m.model: m.mean for m in found.models}["GME 2B"] == pytest.approx(0.519)


def test_one_folder_is_enough_beside_published_numbers(tmp_path: Path) -> None:
    write_scores(tmp_path, scores(row("nights_task4")))
    found = compare([tmp_path], metric="hit@k", published=True, resamples=100)
    assert found.published is not None and found.published.tasks == ("nights_task4",)
    assert found.to_json()["published"]["models"][0]["source"].startswith("UniIR")
