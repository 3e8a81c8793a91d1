"""Evaluation on a data set whose ranks are known by hand."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import ConfigError, DataError, DeviceError, NumericError
from puma_cli.evaluation.encode import encode_groups
from puma_cli.evaluation.results import Scores
from puma_cli.evaluation.scoring import evaluate_embedder
from puma_cli.models.inputs import Input
from tests.evaluation.small import Circle, Entry, Notes, small_data, write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return small_data(tmp_path / "data")


def scored(data: MbeirFolder | Path, embedder: Circle | None = None, **options: Any) -> Scores:
    return evaluate_embedder(embedder or Circle(), data, **options)


def test_ranks_and_means_by_hand(data: Path) -> None:
    scores = scored(data, pools=("local", "union"))
    row = scores.row("tiny_task1")
    assert dict(zip(row.qids, row.ranks.tolist(), strict=True)) == {
        "9:q1": 1,
        "9:q2": 1,
        "9:q3": 3,
        "9:q4": 0,
    }
    assert (row.queries, row.candidates, row.missing, row.unanswerable) == (4, 5, 1, 1)
    assert row.score("hit@1") == 0.5
    assert row.score("hit@5") == row.score("hit@k") == 0.75
    assert row.score("mrr@10") == pytest.approx((1 + 1 + 1 / 3 + 0) / 4)
    first = (1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert row.ndcg == pytest.approx([first, 1, 0.5, 0])
    # q5's picture has a double that is no positive: a tie, which counts as ahead.
    pictures = scores.row("tiny_task0")
    assert pictures.ranks.tolist() == [2, 1]
    assert pictures.ties.tolist() == [1, 0]
    assert pictures.tied == 1
    assert scores.mean("hit@1") == (0.5 + 0.5) / 2
    assert scores.mean("hit@5") == (0.75 + 1) / 2
    # In the union pool q3 (at 14) also meets two pictures at 12, and q6 (at 50) a text at 40.
    union = scores.row("tiny_task1", "union")
    assert union.candidates == 8
    assert union.ranks.tolist() == [1, 2, 5, 0]
    assert scores.means["union"]["hit@1"] == scores.mean("hit@1", "union")
    assert not scores.partial


def test_every_distinct_input_is_encoded_once(data: Path) -> None:
    embedder = Circle()
    scored(data, embedder, pools=("local", "union"))
    candidates, queries = embedder.calls
    assert max(Counter(candidates).values()) == max(Counter(queries).values()) == 1
    assert len(candidates) == 7  # 8 ids, one picture twice
    assert len(queries) == 5  # q2 and q6 ask the same
    assert all(entry.instruction is None for entry in candidates)


def test_encode_groups_gives_every_input_its_own_vector() -> None:
    inputs = [Input(text=str(angle)) for angle in (10, 20, 10, 30)]
    vectors, places = encode_groups(Circle(), [inputs[:3], [], inputs[1:]])
    assert len(vectors) == 3
    for group, place in zip((inputs[:3], [], inputs[1:]), places, strict=True):
        assert torch.equal(vectors.take(place), Circle().encode(group).reshape(-1, 2))


def test_a_model_in_training_is_scored_in_evaluation_mode_and_given_back_as_it_was(
    data: Path,
) -> None:
    embedder = Circle()
    embedder.model.train()
    embedder.model[0].eval()
    scored(data, embedder)
    assert embedder.modes == [False, False]
    assert [module.training for module in embedder.model.modules()] == [True, False, True]


def test_modes_are_restored_after_a_failure(data: Path) -> None:
    class Broken(Circle):
        def encode(self, *args: Any, **kwargs: Any) -> Tensor:
            raise RuntimeError

    embedder = Broken()
    embedder.model.train()
    with pytest.raises(RuntimeError):
        scored(data, embedder)
    assert embedder.model[1].training


def test_a_collapsed_model_scores_zero_and_is_named(data: Path) -> None:
    notes = Notes()
    scores = scored(data, Circle(collapsed=True), reporter=notes)
    assert scores.mean("hit@1") == 0
    # Two of q1's five candidates are positives, so three wrong ones stand ahead.
    assert scores.row("tiny_task1").ranks.tolist() == [4, 5, 5, 0]
    assert any("tiny_task1" in note and "ties" in note for note in notes.notes)


def test_queries_without_a_positive_in_the_pool_are_reported(data: Path) -> None:
    notes = Notes()
    scored(data, tasks="*_task1", reporter=notes)
    assert any("1 of 4 queries have no positive" in note for note in notes.notes)


def test_a_limit_takes_queries_all_over_the_file_and_marks_the_scores(data: Path) -> None:
    scores = scored(data, limit=2)
    row = scores.row("tiny_task1")
    assert row.qids == ("9:q1", "9:q3")
    assert row.partial
    assert scores.partial
    assert not scores.row("tiny_task0").partial
    assert row.candidates == 5
    assert not scored(data, limit=4).partial


def test_instructions_reach_the_queries(data: Path) -> None:
    header = "query_modality\tcand_modality\tdataset_name\tdataset_id\tprompt_1\tprompt_2\n"
    (data / "instructions").mkdir()
    (data / "instructions" / "query_instructions.tsv").write_text(
        header + "text\ttext\ttiny\t9\tFind it.\tSeek it.\n"
    )
    embedder = Circle()
    with pytest.raises(DataError, match=r"none for queries of tiny_task0\."):
        scored(data, embedder)
    assert not embedder.calls
    scored(data, embedder, tasks="*_task1")
    assert {entry.instruction for entry in embedder.calls[-1]} == {"Find it."}
    chosen = []
    for seed in (0, 0, 1, 2, 3):
        scored(data, embedder, tasks="*_task1", instruction="seeded", seed=seed)
        chosen.append([entry.instruction for entry in embedder.calls[-1]])
    assert chosen[0] == chosen[1]
    assert {prompt for prompts in chosen for prompt in prompts} == {"Find it.", "Seek it."}


def test_a_data_set_without_instructions_is_scored_with_a_note(data: Path) -> None:
    notes = Notes()
    scored(data, reporter=notes)
    assert [note for note in notes.notes if "instruction" in note] == [
        "The data set has no instruction for queries of tiny_task0, tiny_task1."
    ]


def test_queries_without_an_answer_are_refused_where_they_are_not_to_score_zero(data: Path) -> None:
    embedder = Circle()
    with pytest.raises(DataError, match=r"1 of 4 queries of tiny_task1 .* '9:q4'") as caught:
        scored(data, embedder, unanswerable="error")
    assert "'9:99' is not in the pool" in caught.value.cause
    assert "tiny_task1_test_qrels.txt, line 5" in caught.value.cause
    assert not embedder.calls
    scored(data, embedder, unanswerable="error", tasks="*_task0")


def test_qrels_of_unknown_queries_are_refused(data: Path) -> None:
    path = data / "qrels/test/mbeir_tiny_task1_test_qrels.txt"
    path.write_text(path.read_text() + "9:q77 0 9:1 1 1\n")
    with pytest.raises(
        DataError, match=r"1 queries that it does not have, such as '9:q77'"
    ) as found:
        scored(data)
    assert "line 6" in found.value.cause


def test_the_fashion_sets_keep_their_own_k(tmp_path: Path) -> None:
    pool: list[Entry] = [(f"1:{i}", str(i), None) for i in range(1, 12)]
    task = ([("1:q", "0", None)], {"1:q": ["1:8"]}, pool)
    fashion = write_data(tmp_path / "a", {1: task}, dataset="fashion200k")
    other = write_data(tmp_path / "b", {1: task})
    assert scored(fashion).row("fashion200k_task1").score("hit@k") == 1
    assert scored(other).row("tiny_task1").score("hit@k") == 0
    assert scored(other, k=8).row("tiny_task1").score("hit@k") == 1


def test_a_candidate_listed_twice_counts_once(tmp_path: Path) -> None:
    pool: list[Entry] = [("1:1", "5", None), ("1:1", "5", None), ("1:2", "50", None)]
    data = write_data(tmp_path, {1: ([("1:q", "0", None)], {"1:q": ["1:1"]}, pool)})
    row = scored(data).row("tiny_task1")
    assert (row.candidates, row.ranks.tolist()) == (2, [1])


def test_an_empty_pool_is_an_error(tmp_path: Path) -> None:
    data = write_data(tmp_path, {1: ([("1:q", "0", None)], {"1:q": ["1:1"]}, [])})
    for pool in ("local", "union"):
        with pytest.raises(DataError, match="empty"):
            scored(data, pools=(pool,))


def test_a_task_without_queries_is_an_error(tmp_path: Path) -> None:
    data = write_data(tmp_path, {1: ([], {}, [("1:1", "0", None)])})
    with pytest.raises(DataError, match="no queries"):
        scored(data)


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"k": 0},
        {"pools": ("global",)},
        {"pools": ()},
        {"pools": ("local", "local")},
        {"instruction": "random"},
    ],
)
def test_illegal_options_are_refused(data: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        scored(data, **options)


def test_missing_splits_and_tasks_are_data_errors(data: Path) -> None:
    for name, value in (("split", "val"), ("tasks", "*_task9")):
        options: dict[str, Any] = {name: value}
        with pytest.raises(DataError):
            scored(data, **options)


def test_asking_for_what_was_not_scored_says_what_was(data: Path) -> None:
    scores = scored(MbeirFolder(data))
    for call in (lambda: scores.mean("hit@1", "union"), lambda: scores.row("tiny_task8")):
        with pytest.raises(DataError, match="no scores") as caught:
            call()
        assert "local" in caught.value.cause or "tiny_task1" in caught.value.cause


def test_numbers_that_are_not_finite_are_an_error(data: Path) -> None:
    class Overflowing(Circle):
        def encode(self, *args: Any, **kwargs: Any) -> Tensor:
            return super().encode(*args, **kwargs) / 0

    with pytest.raises(NumericError):
        scored(data, Overflowing())


def test_a_device_without_memory_is_explained(data: Path) -> None:
    class Large(Circle):
        def encode(self, *args: Any, **kwargs: Any) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(DeviceError, match="batches of 128") as caught:
        scored(data, Large())
    assert "--batch-size 32" in caught.value.hint
