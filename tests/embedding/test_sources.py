"""What inputs become rows, in which order, under which ids."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from puma_cli.embedding.rows import (
    Broken,
    Item,
    Row,
    content_of,
    path_to_text,
    readable,
    text_to_path,
)
from puma_cli.embedding.sources import blocks, count, sources_of, stream
from puma_cli.embedding.table_rows import Columns
from puma_cli.errors import ConfigError, DataError


def rows(*inputs: Path | str, skip: bool = False, **columns: object) -> list[Item]:
    names = [str(each) for each in inputs]
    return list(stream(sources_of(names, Columns(**columns), skip)))  # type: ignore[arg-type]


def ids(found: list[Item]) -> list[str]:
    return [item.id for item in found if isinstance(item, Row)]


def write_lines(path: Path, *values: object) -> Path:
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values), encoding="utf-8")
    return path


def test_lines_are_numbered_as_in_the_file_and_blank_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_bytes("\ufeffone\n\n  two \r\nthree\u2028four".encode())
    found = rows(path)
    assert found == [Row("1", "one"), Row("3", "two"), Row("4", "three\u2028four")]
    assert count(sources_of([str(path)])) == 4


def test_a_line_that_is_no_utf_8_is_named_or_left_out_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(b"one\ncaf\xe9\nthree\n\xff\n")
    with pytest.raises(DataError, match="line 2 is not UTF-8"):
        rows(path)
    found = rows(path, skip=True)
    assert [type(item) for item in found] == [Row, Broken, Row, Broken]
    assert ids(found) == ["1", "3"]


def test_images_come_by_name_from_all_folders(pictures: Path) -> None:
    found = rows(pictures)
    assert ids(found) == ["a.jpg", "b.png", "d.PNG", "deep/c.png"]
    assert [item.image for item in found if isinstance(item, Row)][3] == pictures / "deep/c.png"
    assert count(sources_of([str(pictures)])) == 4


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="holds no images") as caught:
        rows(tmp_path)
    assert ".jpeg" in caught.value.cause


def test_names_that_are_no_utf_8_can_be_read_written_and_found_again(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    (item,) = rows(tmp_path)
    assert isinstance(item, Row) and item.image is not None
    assert item.id == "caf\\xe9.png"
    text = path_to_text(item.image)
    text.encode()
    assert text_to_path(text) == item.image
    assert text_to_path(path_to_text(tmp_path / "plain.png")) == tmp_path / "plain.png"
    assert readable("plain.png") == "plain.png"


def test_columns_are_found_by_their_usual_names(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "pool.jsonl",
        {"did": "1:7", "txt": "a text", "img_path": None, "modality": "text"},
        {"did": "1:8", "txt": "", "img_path": "deep/c.png", "modality": "image", "more": [1]},
    )
    assert rows(path) == [
        Row("1:7", "a text", metadata={"modality": "text"}),
        Row("1:8", None, tmp_path / "deep/c.png", metadata={"modality": "image", "more": [1]}),
    ]
    (first, _) = rows(path, images=tmp_path / "else", metadata=())
    assert first == Row("1:7", "a text")
    assert rows(path, images=tmp_path / "else")[1].image == tmp_path / "else/deep/c.png"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="no column 'title'"):
        rows(path, text="title")


def test_paths_of_an_m_beir_pool_start_from_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "cand_pool" / "local").mkdir(parents=True)
    path = write_lines(
        tmp_path / "cand_pool" / "local" / "t.jsonl", {"did": "1:1", "img_path": "images/a.png"}
    )
    assert rows(path) == [Row("1:1", None, tmp_path / "images/a.png")]


def test_csv_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,text,price\n1,"a, b",3\n2,c,4\n', encoding="utf-8")
    table = {"id": ["1", "2"], "text": ["a, b", "c"], "price": ["3", "4"]}
    raw = {"blob": [b"x", b"y"]}
    pq.write_table(pa.table(table | raw), tmp_path / "t.parquet")
    expected = [Row("1", "a, b", metadata={"price": "3"}), Row("2", "c", metadata={"price": "4"})]
    assert rows(tmp_path / "t.csv") == expected
    # Bytes are no text, so they are not carried along.
    assert rows(tmp_path / "t.parquet") == expected
    assert count(sources_of([str(tmp_path / "t.parquet")])) == 2


def test_broken_rows_are_named_or_left_out_in_their_place(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "t.jsonl", {"text": "one"}, {"text": " "}, {"text": 7}, {"text": "\ud800"}
    )
    with pytest.raises(DataError, match="line 2 has neither"):
        rows(path)
    with path.open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match="line 5 is broken"):
        rows(path)
    found = rows(path, skip=True)
    assert [type(item) for item in found] == [Row, Broken, Broken, Broken, Broken]
    assert [item.where[-6:] for item in found if isinstance(item, Broken)] == [
        f"line {n}" for n in (2, 3, 4, 5)
    ]


def test_a_table_without_a_column_that_can_be_embedded_says_which_there_are(
    tmp_path: Path,
) -> None:
    path = write_lines(tmp_path / "t.jsonl", {"title": "one", "price": 3})
    with pytest.raises(DataError, match="no column of texts") as caught:
        rows(path)
    assert caught.value.cause == "Its columns: title, price."
    assert rows(path, text="title") == [Row("1", "one", metadata={"price": 3})]


def test_ids_of_several_inputs_begin_with_their_names(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("two\n")
    found = rows(tmp_path / "a.txt", tmp_path / "sub" / "a.txt", pictures)
    assert ids(found)[:2] == [f"{tmp_path / 'a.txt'}:1", f"{tmp_path / 'sub' / 'a.txt'}:1"]
    assert ids(found)[2] == "pictures/a.jpg"
    assert len(set(ids(found))) == len(found)


def test_a_folder_of_tables_is_read_as_tables(tmp_path: Path) -> None:
    write_lines(tmp_path / "b.jsonl", {"text": "two"})
    write_lines(tmp_path / "a.jsonl", {"text": "one"}, {"id": "x", "text": "three"})
    found = rows(tmp_path)
    assert ids(found) == ["a.jsonl:1", "x", "b.jsonl:1"]


@pytest.mark.parametrize(
    ("name", "said"), [("gone.txt", "does not exist"), ("texts.txt.gz", "no file of text lines")]
)
def test_what_is_no_input_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "texts.txt.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=said):
        rows(tmp_path / name)


def test_blocks_hold_all_items_in_order() -> None:
    items: list[Item] = [Row(str(n), "x") for n in range(10)]
    found = list(blocks(iter(items), 4))
    assert [len(block) for block in found] == [4, 4, 2]
    assert [item for block in found for item in block] == items


def test_the_hash_of_items_sees_every_part_of_them(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"1")
    seen = {
        content_of([Row("1", "a")]),
        content_of([Row("2", "a")]),
        content_of([Row("1", "b")]),
        content_of([Row("1", "a", instruction="i")]),
        content_of([Row("1", "a", metadata={"k": 1})]),
        content_of([Row("1", "a", image)]),
        content_of([Row("1", "a"), Row("1", "a")]),
        content_of([Broken("f, line 1", DataError("x"))]),
    }
    image.write_bytes(b"12")
    seen.add(content_of([Row("1", "a", image)]))
    assert len(seen) == 9
    assert content_of([Row("1", "a")]) in seen
