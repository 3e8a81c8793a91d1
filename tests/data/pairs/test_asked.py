"""Tables of pairs as data to score on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.config.settings import EvaluateSettings
from puma_cli.data.mbeir import TaskName
from puma_cli.data.pairs.asked import AskedPairs
from puma_cli.errors import ConfigError, DataError
from puma_cli.evaluation.opening import open_scored_data
from puma_cli.evaluation.scoring import evaluate_embedder
from tests.evaluation.small import Circle, Notes


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(path: Path, **options: Any) -> AskedPairs:
    return AskedPairs(path, PairsSettings(**options))


def test_rows_of_one_query_are_one_query_with_all_their_positives(tmp_path: Path) -> None:
    table = write(
        tmp_path / "shop.jsonl",
        {"query": "10", "positive": "11"},
        {"query": "10", "positive": ["40", "11"]},
        {"query": "50", "positive": "40", "negative": "52"},
    )
    data = asked(table)
    (task,) = data.tasks("test")
    assert task == TaskName("shop", 1)
    assert [query.text for query in data.queries("test", task)] == ["10", "50"]
    texts = {c.did: c.text or "" for c in data.local_pool(task, "test")}
    assert sorted(texts.values()) == ["11", "40", "52"]
    qrels = data.qrels("test", task)
    assert sorted(sorted(texts[did] for did in dids) for dids in qrels.values()) == [
        ["11", "40"],
        ["40"],
    ]
    row = evaluate_embedder(Circle(), data).row("shop_task1")
    # 50 finds 52 before its 40.
    assert row.ranks.tolist() == [1, 2]
    assert (row.candidates, row.positives.tolist()) == (3, [2, 1])


def test_the_same_picture_in_two_files_is_one_candidate(tmp_path: Path) -> None:
    for name, shade in (("a", 1), ("b", 1), ("c", 2)):
        Image.new("RGB", (30, 30), (shade, shade, shade)).save(tmp_path / f"{name}.png")
    table = write(
        tmp_path / "shop.jsonl",
        *({"query": f"q{name}", "positive_image": f"{name}.png"} for name in "abc"),
    )
    data = asked(table)
    (task,) = data.tasks("test")
    assert len(data.local_pool(task, "test")) == 2
    qrels = list(data.qrels("test", task).values())
    assert qrels[0] == qrels[1] != qrels[2]
    assert data.named_at(tmp_path / "c.png") == f"{table}, line 3"
    assert data.named_at(tmp_path / "z.png") == ""


def test_an_answer_of_another_kind_counts_for_the_same_query(tmp_path: Path) -> None:
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    table = write(
        tmp_path / "shop.jsonl",
        {"query": "x", "positive": "y"},
        {"query": "x", "positive_image": "a.png"},
    )
    data = asked(table)
    assert [task.task_id for task in data.tasks("test")] == [0, 1]
    for task in data.tasks("test"):
        assert [len(dids) for dids in data.qrels("test", task).values()] == [2]


def test_instructions_make_other_queries_and_reach_the_model(tmp_path: Path) -> None:
    table = write(
        tmp_path / "shop.jsonl",
        {"query": "10", "positive": "11", "instruction": "Find it."},
        {"query": "10", "positive": "12", "instruction": "Find another."},
        {"query": "10", "positive": "12"},
    )
    embedder = Circle()
    evaluate_embedder(embedder, asked(table, prompt="Seek."))
    told = {entry.instruction for entry in embedder.calls[-1]}
    assert told == {"Find it.", "Find another.", "Seek."}


def test_of_several_tables_each_is_a_pool_and_all_are_the_union(tmp_path: Path) -> None:
    write(tmp_path / "data/one/pairs.jsonl", {"query": "10", "positive": "11"})
    write(tmp_path / "data/two/pairs.jsonl", {"query": "10", "positive": "10"})
    data = asked(tmp_path / "data")
    scores = evaluate_embedder(Circle(), data, pools=("local", "union"))
    assert [row.candidates for row in scores.rows] == [1, 1, 2, 2]
    assert scores.row("one_task1", "union").ranks.tolist() == [2]


def test_the_split_is_told_by_the_names_of_files(tmp_path: Path) -> None:
    for split, text in (("train", "1"), ("test", "2"), ("val", "3")):
        write(tmp_path / f"data/{split}.jsonl", {"query": text, "positive": "x"})

    def text_of(data: AskedPairs) -> str | None:
        return data.queries("test", data.tasks("test")[0])[0].text

    assert text_of(asked(tmp_path / "data")) == "2"
    assert text_of(AskedPairs(tmp_path / "data", PairsSettings(), "val")) == "3"
    assert text_of(asked(tmp_path / "data", split="train")) == "1"
    (tmp_path / "data/test.jsonl").unlink()
    with pytest.raises(DataError, match="no split test"):
        asked(tmp_path / "data")


def test_broken_rows_are_named_or_left_out_and_counted(tmp_path: Path) -> None:
    table = write(tmp_path / "shop.jsonl", {"query": "10", "positive": "11"}, {"query": "20"})
    with table.open("a") as file:
        file.write('{"query": 3, "positive": "x"}\n{\n{"query": "30", "positive": "31"}\n')
    with pytest.raises(DataError, match="line 4 is broken"):
        asked(table)
    notes = Notes()
    data = AskedPairs(table, PairsSettings(), skip_broken=True, reporter=notes)
    assert data.skipped == 3
    assert notes.notes[0] == "2 queries, 2 candidates. 3 rows were left out."
    assert data.judged_at("test", data.tasks("test")[0], "0:1") == f"{table}, line 5"


def test_settings_that_play_no_part_are_refused(tmp_path: Path, tiny_scenes: Path) -> None:
    table = write(tmp_path / "shop.jsonl", {"query": "10", "positive": "11"})

    def settings(data: Path, **options: Any) -> EvaluateSettings:
        return EvaluateSettings("puma-mini", data, tmp_path / "out", **options)

    found = open_scored_data(settings(table))
    assert (found.protocol, found.pools) == ("pairs", ("local",))
    assert open_scored_data(settings(tiny_scenes)).protocol == "m-beir"
    with pytest.raises(ConfigError, match=r"pairs.validation is for training"):
        open_scored_data(settings(table, pairs=PairsSettings(validation=3)))
    with pytest.raises(ConfigError, match=r"pairs.query_text is set"):
        open_scored_data(settings(tiny_scenes, pairs=PairsSettings(query_text="x")))
    with pytest.raises(ConfigError, match="images = "):
        open_scored_data(settings(tiny_scenes, images=tmp_path))
    with pytest.raises(DataError, match="does not exist") as caught:
        open_scored_data(settings(Path("TIGER-Lab/MMEB-eval")))
    assert "--mmeb TIGER-Lab/MMEB-eval" in caught.value.hint
