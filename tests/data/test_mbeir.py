"""The M-BEIR reader: what it reads, and how it names what is broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from puma_cli.data.mbeir import MbeirFolder, TaskName, select_tasks
from puma_cli.data.records import Query, clean_text
from puma_cli.errors import ConfigError, DataError

TASK0 = TaskName("scenes", 0)


@pytest.fixture
def folder(tiny_scenes: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set that a test may break."""
    copy = tmp_path / "scenes"
    shutil.copytree(tiny_scenes, copy)
    return copy


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")


def test_a_split_has_its_eight_tasks_with_the_right_modalities(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    assert [task.task_id for task in data.tasks("test")] == [0, 1, 2, 3, 4, 6, 7, 8]
    for task in data.tasks("test"):
        pool = {candidate.did: candidate for candidate in data.local_pool(task, "test")}
        relevant = data.qrels("test", task)
        for query in data.queries("test", task):
            assert query.task_id == task.task_id
            assert (query.text is not None) == ("text" in query.modality)
            assert (query.image is not None) == ("image" in query.modality)
            assert relevant[query.qid] == set(query.positives) <= pool.keys()


def test_the_union_pool_holds_every_local_pool(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    union = {candidate.did for candidate in data.union_pool("test")}
    for task in data.tasks("test"):
        assert {candidate.did for candidate in data.local_pool(task, "test")} <= union


def test_instructions_are_first_or_seeded(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    queries = data.queries("test", TASK0)
    prompts = data.instructions.prompts("11", "text", "image")
    assert len(prompts) == 4
    assert {data.instructions.pick(query) for query in queries} == {prompts[0]}
    seeded = [data.instructions.pick(query, "seeded", 1) for query in queries]
    assert seeded == [data.instructions.pick(query, "seeded", 1) for query in queries]
    assert len(set(seeded)) > 1 and set(seeded) <= set(prompts)
    with pytest.raises(ConfigError, match="'random' is no way"):
        data.instructions.pick(queries[0], "random")


def test_a_data_set_without_instructions_gets_none() -> None:
    from puma_cli.data.instructions import Instructions

    assert Instructions().pick(Query("9:1", "x", None, "text", 1)) is None


def test_positive_lists_may_hold_objects(folder: Path) -> None:
    path = folder / "query/test/mbeir_scenes_task0_test.jsonl"

    def objects(lines: list[str]) -> list[str]:
        rows = [json.loads(line) for line in lines]
        for row in rows:
            row["pos_cand_list"] = [{"did": did} for did in row["pos_cand_list"]]
        return [json.dumps(row) for row in rows]

    before = MbeirFolder(folder).queries("test", TASK0)
    rewrite(path, objects)
    assert MbeirFolder(folder).queries("test", TASK0) == before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda line: line[:20], "line 2 is broken"),
        (lambda line: line.replace('"qid"', '"id"'), "line 2 has no key 'qid'"),
        (lambda line: line.replace('"text"', '"txet"'), "modality 'txet' is not one of"),
        (lambda line: line.replace('"task_id": 0', '"task_id": 99'), "task_id 99"),
        (lambda line: line.replace('"task_id": 0', '"task_id": 1'), "task_id is 1 in a file of 0"),
        (lambda line: "[1, 2]", "line 2 is broken"),
    ],
)
def test_a_broken_line_is_named(folder: Path, damage: Callable[[str], str], says: str) -> None:
    path = folder / "query/test/mbeir_scenes_task0_test.jsonl"
    rewrite(path, lambda lines: [lines[0], damage(lines[1]), *lines[2:]])
    with pytest.raises(DataError, match=says) as caught:
        MbeirFolder(folder).queries("test", TASK0)
    assert path.name in str(caught.value)


def test_a_task_of_an_unknown_number_is_named(folder: Path) -> None:
    (folder / "query/test/mbeir_scenes_task9_test.jsonl").touch()
    with pytest.raises(DataError, match="task scenes_task9"):
        MbeirFolder(folder).tasks("test")


def test_broken_instructions_are_named(folder: Path) -> None:
    path = folder / "instructions/query_instructions.tsv"
    path.write_bytes(path.read_bytes() + b"text\ttext\tx\t11\t\xff\n")
    with pytest.raises(DataError, match="line 10 is not UTF-8"):
        _ = MbeirFolder(folder).instructions
    path.write_text("query_modality\tdataset_id\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'cand_modality'"):
        _ = MbeirFolder(folder).instructions


def test_a_broken_qrel_is_named(folder: Path) -> None:
    path = folder / "qrels/test/mbeir_scenes_task0_test_qrels.txt"
    rewrite(path, lambda lines: ["11:1 0 11:2 yes 0", *lines])
    with pytest.raises(DataError, match="line 1 is no qrel"):
        MbeirFolder(folder).qrels("test", TASK0)


def test_an_empty_pool_and_missing_files_are_errors(folder: Path) -> None:
    pool = folder / "cand_pool/local/mbeir_scenes_task0_cand_pool.jsonl"
    pool.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="is empty"):
        MbeirFolder(folder).local_pool(TASK0, "test")
    pool.unlink()
    with pytest.raises(DataError, match="is missing"):
        MbeirFolder(folder).local_pool(TASK0, "test")
    shutil.rmtree(folder / "query/train")
    with pytest.raises(DataError, match="no training queries"):
        MbeirFolder(folder).train_queries()


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in the M-BEIR layout"):
        MbeirFolder(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        MbeirFolder(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        MbeirFolder(tmp_path / "file")


def test_unknown_splits_and_tasks_list_what_there_is(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    with pytest.raises(DataError, match="no queries in the split 'dev'"):
        data.tasks("dev")
    with pytest.raises(DataError, match="scenes_task0"):
        select_tasks(data.tasks("test"), "cirr*")
    chosen = select_tasks(data.tasks("test"), "*task0, *task[67]")
    assert [task.task_id for task in chosen] == [0, 6, 7]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ('  "a red circle"\r\n', "A red circle."),
        ("Is it red?", "Is it red?"),
        ("two words.", "Two words."),
        ("  ", None),
        (None, None),
        ("éclair", "Éclair."),
    ],
)
def test_text_is_cleaned_as_the_reference_does(raw: str | None, clean: str | None) -> None:
    assert clean_text(raw) == clean


def test_training_queries_are_chosen_by_the_name_of_their_task(folder: Path) -> None:
    train = folder / "query/train"
    copy = train / "mbeir_other_train.jsonl"
    shutil.copyfile(train / "mbeir_scenes_train.jsonl", copy)
    data = MbeirFolder(folder)
    everything = data.train_queries()
    chosen = data.train_queries("other_task[01]")
    assert {query.task_id for query in chosen} == {0, 1}
    assert len(chosen) == sum(query.task_id in (0, 1) for query in everything) // 2
    with pytest.raises(DataError, match="No task matches 'nights"):
        data.train_queries("nights*")
