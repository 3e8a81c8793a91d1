"""What is read of a data set before anything is scored."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import ConfigError, DataError
from puma_cli.evaluation.tasks import evenly, list_tasks, make_pool, read_tasks
from tests.evaluation.small import small_data


def test_tasks_are_listed_with_their_sizes(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    assert list_tasks(data, "test") == [("tiny_task0", 2, 3), ("tiny_task1", 4, 5)]
    assert [task.name for task in list_tasks(data, tasks="*1")] == ["tiny_task1"]
    with pytest.raises(DataError, match="val"):
        list_tasks(data, "val")


@given(st.integers(0, 60), st.integers(1, 70))
def test_a_limit_keeps_distinct_items_in_order_from_all_over(size: int, limit: int) -> None:
    items = list(range(size))
    kept = evenly(items, limit)
    assert len(kept) == min(size, limit)
    assert list(kept) == sorted(set(kept))
    if len(kept) > 1:
        gaps = [after - before for before, after in pairwise(kept)]
        assert max(gaps) - min(gaps) <= 1


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        evenly([1, 2], 0)


def test_the_hash_of_the_queries_covers_their_texts_and_positives(tmp_path: Path) -> None:
    def digest(name: str, old: str = "", new: str = "") -> str:
        data = small_data(tmp_path / name)
        for path in data.rglob("*task1_test*"):
            path.write_text(path.read_text().replace(old, new) if old else path.read_text())
        return read_tasks(MbeirFolder(data), "test", "*1")[0].digest

    same = digest("a")
    assert same == digest("b")  # wherever the folder lies
    assert same != digest("c", '"14"', '"15"')
    assert same != digest("d", "9:99", "9:98")


def test_inputs_and_places_of_what_is_asked(tmp_path: Path) -> None:
    data = MbeirFolder(small_data(tmp_path))
    task = read_tasks(data, "test", "*1")[0]
    pool = make_pool("local", data.local_pool(task.name, "test"), data.root)
    assert [entry.text for entry in pool.inputs()] == ["11.", "13.", "20.", "40.", "80."]
    assert pool.places_of(task.relevant) == [[0, 3], [3], [2], []]
    prompts = Instructions({("9", "text", "text"): ("Find it.",)})
    assert {entry.instruction for entry in task.inputs(prompts)} == {"Find it."}
    assert [entry.text for entry in task.inputs(prompts)] == ["10.", "50.", "14.", "80."]
