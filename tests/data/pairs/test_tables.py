"""Formats: the same rows from each, and every break named with its file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puma_cli.data.pairs.tables import open_table
from puma_cli.errors import DataError
from tests.data.pairs.writing import write_table

SUFFIXES = (".jsonl", ".csv", ".parquet")
# Whatever may stand in a text: quotation marks, commas, line breaks, any script.
TEXTS = st.text(max_size=12).map(lambda text: text.replace("\r", "").replace("\0", ""))


@given(rows=st.lists(st.fixed_dictionaries({"query": TEXTS, "pos": TEXTS}), min_size=1, max_size=6))
def test_every_format_gives_back_what_was_written(
    rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    for suffix in SUFFIXES:
        table = open_table(write_table(folder / f"pairs{suffix}", rows))
        assert set(table.columns) == {"query", "pos"}
        assert [row for _, row in table.rows(table.columns)] == rows


def test_a_record_over_several_lines_counts_from_its_first(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(b'\xef\xbb\xbfquery,pos\r\n"a\r\nb",c\r\n\r\nd,"e ""f"""\r\n')
    table = open_table(path)
    assert table.columns == ("query", "pos")
    assert list(table.rows(())) == [
        (2, {"query": "a\r\nb", "pos": "c"}),
        (5, {"query": "d", "pos": 'e "f"'}),
    ]


def test_a_byte_order_mark_and_crlf_do_no_harm_in_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"query": "a"}\r\n\r\n{"query": "b", "pos": "c"}')
    table = open_table(path)
    assert table.columns == ("query", "pos")
    assert [number for number, _ in table.rows(())] == [1, 3]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "is empty"),
        ("a.csv", b"", "is empty"),
        ("a.jsonl", b'{"query": "a"}\n{"query": ', "line 2 is broken"),
        ("a.jsonl", b"[1, 2]\n", "line 1 is broken"),
        ("a.jsonl", b"[" * 100_000, "line 1 is broken"),
        ("a.jsonl", b'{"query": "a"}\n\xff\n', "line 2 is not UTF-8"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "line 1 is not UTF-8"),
        ("a.csv", "query,pos\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("a.csv", b"query,pos\na,b\na\n", "line 3 has 1 fields, not 2"),
        ("a.csv", b"query,pos\na,b,c\n", "line 2 has 3 fields, not 2"),
        ("a.csv", b'query,pos\na,b\n"c,d\ne,f\n', "line 3 is broken"),
        ("a.csv", b"query,query\na,b\n", "two columns 'query'"),
        ("a.parquet", b"", "cannot be read as parquet"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "cannot be read as parquet"),
    ],
)
def test_what_is_broken_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        list(open_table(path).rows(()))
    assert str(path) in str(caught.value)


def test_a_parquet_file_that_breaks_off_or_has_no_rows_is_named(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", [{"query": "a" * 999}] * 50)
    whole = path.read_bytes()
    # The footer stays, so that only the reading of a page can tell.
    path.write_bytes(whole[:4] + bytes(40) + whole[44:])
    with pytest.raises(DataError, match="cannot be read as parquet"):
        list(open_table(path).rows(["query"]))
    pq.write_table(pa.table({"query": pa.array([], pa.string())}), path)
    with pytest.raises(DataError, match="is empty"):
        open_table(path)


def test_images_inside_a_table_are_refused_before_they_are_read(tmp_path: Path) -> None:
    image = {"bytes": b"\x89PNG", "path": "a.png"}
    path = write_table(tmp_path / "a.parquet", [{"query_image": image, "pos": "a"}])
    table = open_table(path)
    with pytest.raises(DataError, match=r"'query_image' .* holds no texts") as caught:
        list(table.rows(["query_image"]))
    assert "to files" in caught.value.hint
    assert list(table.rows(["pos"])) == [(1, {"pos": "a"})]


def test_many_rows_of_parquet_are_numbered_through(tmp_path: Path) -> None:
    rows = [{"query": str(n)} for n in range(10_000)]
    table = open_table(write_table(tmp_path / "a.parquet", rows))
    assert [(n, row["query"]) for n, row in table.rows(["query"])][-1] == (10_000, "9999")


def test_a_key_that_only_later_lines_have_is_a_column(tmp_path: Path) -> None:
    lines = [json.dumps({"query": "a"})] * 20 + [json.dumps({"neg": "b"})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert open_table(tmp_path / "a.jsonl").columns == ("query", "neg")
