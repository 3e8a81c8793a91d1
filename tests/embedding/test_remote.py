"""Inputs at an address give the rows, the vectors and the starts of the same inputs at a path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from puma_cli.embedding.embed import embed
from puma_cli.embedding.rows import Broken, Item, RemotePath, Row
from puma_cli.embedding.sources import Source, sources_of
from puma_cli.errors import ConfigError, DataError
from tests.embedding.conftest import Make
from tests.embedding.test_embed import held
from tests.embedding.test_starts import check

ADDRESS = "memory://bucket"


@pytest.fixture
def store(tmp_path: Path, pictures: Path) -> Any:
    """Return a store in memory with the pictures, a table of each kind and a text."""
    (tmp_path / "t.jsonl").write_bytes(b'{"text": "a"}\n\n{broken\n{"text": "b", "id": 7}\n')
    (tmp_path / "t.csv").write_text('text,n\nred,1\n"two\nlines",2\n')
    pq.write_table(pa.table({"text": list("abcdefg")}), tmp_path / "t.parquet", row_group_size=3)
    (tmp_path / "lines.txt").write_text("one\n\ntwo\n")
    files = fsspec.filesystem("memory")
    files.put(str(pictures), "/bucket/pictures", recursive=True)
    for name in ("t.jsonl", "t.csv", "t.parquet", "lines.txt"):
        files.put(str(tmp_path / name), f"/bucket/{name}")
    yield files
    files.rm("/bucket", recursive=True)


def bare(items: list[Item], place: str) -> list[object]:
    """Return items without what depends on where they are."""
    return [
        item.where.removeprefix(place) if isinstance(item, Broken) else replace(item, image=None)
        for item in items
    ]


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.parquet", "lines.txt"])
def test_tables_and_lines(store: Any, tmp_path: Path, name: str) -> None:
    there: list[Source] = sources_of([f"{ADDRESS}/{name}"], skip_broken=True)
    here = sources_of([str(tmp_path / name)], skip_broken=True)
    assert bare(check(there), ADDRESS) == bare(check(here), str(tmp_path))


def test_images(store: Any, pictures: Path) -> None:
    inputs = [f"{ADDRESS}/pictures", f"{ADDRESS}/pictures/b.png"]
    found = [item for source in sources_of(inputs) for item in source.items()]
    ids = [item.id for item in found if isinstance(item, Row)]
    assert ids == [*(f"pictures/{n}" for n in ("a.jpg", "b.png", "d.PNG", "deep/c.png")), "b.png"]
    copies = [item.image for item in found if isinstance(item, Row)]
    assert [copy.read_bytes() for copy in copies if copy][1] == (pictures / "b.png").read_bytes()
    first = copies[0]
    assert isinstance(first, RemotePath) and first.url == f"{ADDRESS}/pictures/a.jpg"
    place = str(first)
    del found, copies, first
    assert not Path(place).exists()


def test_an_index_of_an_address(store: Any, make: Make, pictures: Path) -> None:
    here = make(pictures, shard_rows=2)
    embed(here)
    there = make(f"{ADDRESS}/pictures", shard_rows=2, output_dir=here.output_dir.with_name("there"))
    assert embed(there).rows == 4
    (rows, vectors), (others, expected) = held(there.output_dir), held(here.output_dir)
    assert torch.equal(vectors, expected)
    assert [row.id for row in rows] == [row.id for row in others]
    assert [getattr(row.image, "url", "") for row in rows] == [
        f"{ADDRESS}/pictures/{row.id}" for row in rows
    ]
    # The same objects are known again, others are not.
    assert embed(there).embedded == 0
    store.rm("/bucket/pictures/d.PNG")
    store.put(str(pictures / "a.jpg"), "/bucket/pictures/d.PNG")
    with pytest.raises(DataError, match="inputs are not those"):
        embed(there)


def test_what_is_not_there_is_said(store: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at memory://bucket/none"):
        sources_of([f"{ADDRESS}/none"])
    with pytest.raises(ConfigError, match="cannot be read"):
        sources_of(["nosuchstore://bucket"])
    with pytest.raises(DataError, match=r"^memory://bucket/t\.jsonl, line 3 is broken"):
        list(sources_of([f"{ADDRESS}/t.jsonl"])[0].items())
    store.pipe("/bucket/i.jsonl", b'{"image": "pictures/a.jpg"}\n')
    with pytest.raises(DataError, match="images beside it"):
        list(sources_of([f"{ADDRESS}/i.jsonl"])[0].items())
