"""Whole tables: queries, candidates, what is held out, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.data.mbeir import TaskName
from puma_cli.data.pairs.reading import PairData, read_pairs
from puma_cli.errors import DataError
from puma_cli.evaluation.scoring import evaluate_embedder
from tests.data.pairs.writing import Row, draw, mmeb, texts, write_table
from tests.evaluation.small import Circle, Notes

NONE = PairsSettings(validation=None)


def shown(data: PairData) -> list[tuple[Any, ...]]:
    """Return each query with what it names, by content."""
    pool = {c.did: (c.text, c.image) for c in data.pool}
    return [
        (q.text, q.image, [pool[d] for d in q.positives], [pool[d] for d in q.negatives])
        for q in data.queries
    ]


def test_every_format_reads_the_same(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"query": "a", "positive": "b", "negative": "c", "query_image": ""},
        {"query": "", "positive": "d", "negative": None, "query_image": "x.png"},
    ]
    image = draw(tmp_path / "x.png")
    found = [
        shown(read_pairs(write_table(tmp_path / f"pairs{suffix}", rows), NONE))
        for suffix in (".jsonl", ".csv", ".parquet")
    ]
    assert found[0] == found[1] == found[2]
    assert found[0] == [
        ("a", None, [("b", None)], [("c", None)]),
        (None, image, [("d", None)], []),
    ]


def test_simcse_triplets_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "nli_for_simcse.csv"
    path.write_text('sent0,sent1,hard_neg\n"A man, asleep.",A man sleeps.,A man runs.\n')
    data = read_pairs(path, NONE)
    assert shown(data) == [
        ("A man, asleep.", None, [("A man sleeps.", None)], [("A man runs.", None)])
    ]
    assert data.queries[0].task_id == 1 and data.queries[0].modality == "text"


def test_mmeb_is_read_as_it_ships(tmp_path: Path) -> None:
    root = mmeb(tmp_path / "MMEB-train")
    notes = Notes()
    data = read_pairs(root, NONE, reporter=notes)
    assert Counter(query.task_id for query in data.queries) == {6: 12, 2: 12}
    assert Counter(query.qid.partition(":")[0] for query in data.queries) == {"0": 12, "1": 12}
    first = data.queries[0]
    assert first.text == "Find an image caption describing the given image."
    assert first.image == root / "images/MSCOCO_i2t/0.png"
    assert "24 pairs of 2 tasks" in notes.notes[0] and "query_text=qry" in notes.notes[1]
    alone = read_pairs(root / "VisDial" / "original-00000-of-00001.parquet", NONE)
    assert shown(alone) == shown(read_pairs(root / "VisDial", NONE))
    only = read_pairs(root, NONE, tasks="VisDial")
    assert {query.task_id for query in only.queries} == {2} and len(only.queries) == 12
    assert len(read_pairs(root, NONE, tasks="*_task6").queries) == 12
    with pytest.raises(DataError, match="No data set matches 'CIRR'") as caught:
        read_pairs(root, NONE, tasks="CIRR")
    assert "MSCOCO_i2t, VisDial" in caught.value.hint


def test_archives_are_named_with_the_command_that_unpacks_them(tmp_path: Path) -> None:
    root = mmeb(tmp_path / "MMEB-train")
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images_zip").mkdir()
    for name in ("A-OKVQA", "MSCOCO_i2t"):
        (root / "images_zip" / f"{name}.zip").touch()
    with pytest.raises(DataError, match="row 1 is incomplete") as caught:
        read_pairs(root, NONE)
    zipped = root / "images_zip" / "MSCOCO_i2t.zip"
    assert f"unzip -d {root / 'images'} {zipped}" in caught.value.hint
    (tmp_path / "elsewhere").rename(tmp_path / "images")
    assert read_pairs(root, replace(NONE, images=tmp_path)).queries[0].image is not None


def test_equal_contents_are_one_candidate_and_shared_answers_no_negatives(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"query": "a", "pos": "x", "neg": ["y", "z"]},
        {"query": "b", "pos": "x", "neg": []},
        {"query": "a", "pos": "y", "neg": ["z"]},
        {"query": "a", "pos": "x", "neg": ["z"]},
    ]
    data = read_pairs(write_table(tmp_path / "pairs.jsonl", rows), NONE)
    x, y, z = (next(c.did for c in data.pool if c.text == text) for text in "xyz")
    assert len(data.pool) == 3
    assert [query.positives for query in data.queries] == [(x,), (x,), (y,), (x,)]
    assert [set(query.relevant) for query in data.queries] == [{x, y}, {x}, {x, y}, {x, y}]
    assert data.queries[0].negatives == (y, z)


def test_the_same_query_under_another_instruction_is_another_query(tmp_path: Path) -> None:
    rows = [
        {"query": "a", "pos": "x", "instruction": "name its colour"},
        {"query": "a", "pos": "y", "instruction": "name its shape"},
        {"query": "a", "pos": "z", "instruction": ""},
    ]
    path = write_table(tmp_path / "pairs.jsonl", rows)
    data = read_pairs(path, replace(NONE, prompt="find it"))
    asked = [data.instructions.pick(query, "seeded", seed=3) for query in data.queries]
    assert asked == ["name its colour", "name its shape", "find it"]
    assert all(query.relevant == query.positives for query in data.queries)


@given(
    asked=st.lists(st.integers(0, 60), min_size=1, max_size=150),
    count=st.integers(0, 12),
    size=st.integers(1, 40),
    seed=st.integers(0, 3),
)
def test_held_out_queries_are_never_trained_on(
    asked: list[int], count: int, size: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [{"query": f"q{n}", "positive": f"p{place % 7}"} for place, n in enumerate(asked)]
    path = write_table(tmp_path_factory.mktemp("held") / "pairs.jsonl", rows)
    settings = PairsSettings(validation=count, validation_pool=size)
    data = read_pairs(path, settings, seed=seed)
    distinct = set(asked)
    held = data.validation
    out = [] if held is None else held.queries("val", TaskName("pairs", 1))
    left = {query.text for query in data.queries}
    assert len(out) == min(count, len(distinct) // 10)
    assert len({query.text for query in out}) == len(out)
    assert not left & {query.text for query in out}
    assert left | {query.text for query in out} == {f"q{n}" for n in asked}
    dids = {candidate.did for candidate in data.pool}
    assert all(did in dids for query in data.queries for did in (*query.relevant, *query.negatives))
    if held is None:
        return
    pool = held.local_pool(TaskName("pairs", 1), "val")
    text = {candidate.did: candidate.text for candidate in pool}
    assert len(set(text.values())) == len(pool) >= min(size, len({r["positive"] for r in rows}))
    judged = held.qrels("val", TaskName("pairs", 1))
    for query in out:
        expected = {row["positive"] for row in rows if row["query"] == query.text}
        assert {text[did] for did in judged[query.qid]} == expected
    again = read_pairs(path, settings, seed=seed).validation
    assert again == held


def test_held_out_queries_are_scored_by_hand_known_answers(tmp_path: Path) -> None:
    """Queries ask for the angle of their own number; every third positive is off by a lot."""
    rows = [{"query": str(n), "positive": str(n + (41 if n % 3 == 0 else 0))} for n in range(0, 90)]
    path = write_table(tmp_path / "pairs.jsonl", rows)
    held = read_pairs(path, PairsSettings(validation=9, validation_pool=1_000)).validation
    assert held is not None
    scores = evaluate_embedder(Circle(), held, split="val", tasks="pairs", pools=("local",))
    (row,) = scores.rows
    asked = held.queries("val", TaskName("pairs", 1))
    pool = {int(c.text or "") for c in held.local_pool(TaskName("pairs", 1), "val")}
    assert pool == {int(each["positive"]) for each in rows}
    hits = [min(pool, key=lambda at: abs(at - int(q.text or ""))) % 3 == int(q.text or "") % 3
            and int(q.text or "") % 3 != 0 for q in asked]  # fmt: skip
    assert row.queries == 9 and row.unanswerable == 0 and 0 < sum(hits) < 9
    assert row.score("hit@1") == pytest.approx(sum(hits) / 9)


@pytest.mark.parametrize(
    ("rows", "where", "cause"),
    [
        ([{"query": "a", "pos": "b"}, {"query": "", "pos": "b"}], "line 2", "for the query"),
        ([{"query": "a", "pos": None}], "line 1", "for the positive"),
        ([{"query": "a", "pos_image": "gone.png"}], "line 1", "gone.png is not there"),
        ([{"query": "a", "pos_image": "http://x/a.png"}], "line 1", "http://x/a.png"),
        ([{"query": "a", "pos": 7}], "line 1", "'7' in 'pos' is no text"),
        ([{"query": "a", "pos": "b\udc00"}], "line 1", "no valid Unicode"),
        ([{"query": "a", "pos_image": "x\0y"}], "line 1", ""),
        ([{"query": "a", "pos_image": "x" * 5_000}], "line 1", ""),
    ],
)
def test_rows_that_are_no_pairs_are_named(
    rows: list[Row], where: str, cause: str, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "pairs.jsonl", rows)
    with pytest.raises(DataError, match=f"{where} is (incomplete|broken)") as caught:
        read_pairs(path, NONE)
    assert str(path) in caught.value.problem and cause in caught.value.cause


def test_incomplete_rows_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    draw(tmp_path / "x.png")
    rows = [
        {"query": "a", "pos": "b", "pos_image": ""},
        {"query": "", "pos": "b", "pos_image": ""},
        {"query": "a", "pos": "", "pos_image": "gone.png"},
        {"query": "a", "pos": "", "pos_image": "x.png"},
    ]
    path = write_table(tmp_path / "pairs.csv", rows)
    notes = Notes()
    data = read_pairs(path, replace(NONE, incomplete="skip"), reporter=notes)
    assert len(data.queries) == 2
    assert "1 without a query, 1 whose image file is not there" in notes.notes[0]
    write_table(path, rows[1:2])
    with pytest.raises(DataError, match="No pair is left") as caught:
        read_pairs(path, replace(NONE, incomplete="skip"))
    assert "1 without a query" in caught.value.cause


def test_one_row_is_read_and_a_header_alone_is_not(tmp_path: Path) -> None:
    path = write_table(tmp_path / "pairs.csv", texts(1))
    data = read_pairs(path, PairsSettings())
    assert len(data.queries) == 1 and data.validation is None
    path.write_text("query,positive\n")
    with pytest.raises(DataError, match="no rows"):
        read_pairs(path, NONE)


def test_a_column_that_shows_late_is_read_and_may_make_unclear(tmp_path: Path) -> None:
    lines = [json.dumps({"query": "a", "pos": f"b{n}"}) for n in range(1_500)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([*lines, json.dumps({"query": "a", "pos": "b", "neg": "c"})]))
    assert read_pairs(path, NONE).queries[-1].negatives
    path.write_text("\n".join([*lines, json.dumps({"anchor": "a", "pos": "b"})]))
    with pytest.raises(DataError, match="query, anchor"):
        read_pairs(path, NONE)


def test_images_are_found_beside_the_table_before_the_folder(tmp_path: Path) -> None:
    near = draw(tmp_path / "shop" / "pictures" / "1.png")
    row = {"query_image": "pictures/1.png", "positive": "one"}
    write_table(tmp_path / "shop" / "train.jsonl", [row])
    assert read_pairs(tmp_path, NONE).queries[0].image == near
    far = draw(tmp_path / "pictures" / "1.png")
    assert read_pairs(tmp_path, NONE).queries[0].image == near
    near.unlink()
    assert read_pairs(tmp_path, NONE).queries[0].image == far
