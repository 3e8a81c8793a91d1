"""A source that is read from any of its starts on yields what follows, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from puma_cli.data.lines import line_starts, numbered_lines
from puma_cli.embedding.rows import Broken, Item, Row
from puma_cli.embedding.sources import ShardReader, Source, blocks, sources_of, stream
from puma_cli.embedding.starts import find_starts


def plain(items: list[Item]) -> list[object]:
    """Return items as what can be compared: errors are not equal to each other."""
    return [(i.where, str(i.error)) if isinstance(i, Broken) else i for i in items]


def check(sources: list[Source]) -> list[Item]:
    """Compare what is read from each start with a whole reading; return that."""
    for source in sources:
        whole = plain(list(source.items()))
        # As a worker gets them.
        starts = [json.loads(json.dumps(start)) for start in source.starts()]
        assert len(starts) == len(whole)
        for place, start in enumerate(starts):
            assert plain(list(source.items(start))) == whole[place:]
    everything = list(stream(sources))
    for size in (1, 2, 3, 100):
        found, read = find_starts(sources, size)
        assert read == len(everything)
        expected = [plain(block) for block in blocks(iter(everything), size)]
        reader = ShardReader(sources, size)
        for order in (found, found[::-1], found[::2]):
            for begin in order:
                assert plain(reader.read(begin)) == expected[begin.number]
    return everything


@given(
    st.lists(
        st.sampled_from(
            (
                b"one",
                b"",
                b"  ",
                b"\xc2\xa0",
                b"\x1c",
                b"\xff",
                b" two ",
                b"\xc3\xa9",
                b"\r",
                b"\x85",
            )
        ),
        max_size=8,
    ),
    st.booleans(),
    st.booleans(),
)
def test_lines_start_where_they_are_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], bom: bool, ended: bool
) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbf" * bom + b"\n".join(lines) + b"\n" * ended)
    check(sources_of([str(path)], skip_broken=True))
    naive = [n for n, line in numbered_lines(path, lambda *_: None) if line.strip()]
    assert [n for _, n in line_starts(path) if n in naive] == naive


def test_tables(tmp_path: Path) -> None:
    jsonl, csv, parquet = (tmp_path / f"t.{kind}" for kind in ("jsonl", "csv", "parquet"))
    jsonl.write_bytes(
        b'{"text": "a"}\n\n{"text": ""}\n{broken\n\xff\n{"text": "b", "id": 7}\n \n[1]\n'
        b'{"text": "c", "n": 1}\n'
    )
    csv.write_text('text,n\nred,1\n"two\nlines",2\n\nshort\n"a ""b""",3\nlast,4\n')
    rows = pa.table({"text": [f"text {n}" for n in range(23)], "n": list(range(23))})
    pq.write_table(rows, parquet, row_group_size=5)
    found = check(sources_of([str(jsonl), str(csv), str(parquet)], skip_broken=True))
    assert sum(isinstance(item, Row) for item in found) == 3 + 4 + 23
    assert sum(isinstance(item, Broken) for item in found) == 4 + 1


def test_images(pictures: Path) -> None:
    (pictures / "deep" / "er").mkdir()
    for name in ("deep/er/z.png", "deep/a.png", "deep.png"):
        Image.new("RGB", (8, 8)).save(pictures / name)
    odd = os.fsdecode(bytes(pictures) + b"/caf\xe9.png")
    Image.new("RGB", (8, 8)).save(odd)
    found = check(sources_of([str(pictures), str(pictures / "b.png")]))
    assert len(found) == 9
