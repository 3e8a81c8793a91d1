"""A table of LanceDB as an index: the same vectors, gone on with, searched, and damaged."""

from __future__ import annotations

import random
import shutil
import string
from pathlib import Path

import pytest
import torch

from puma_cli.embedding.embed import embed
from puma_cli.embedding.lance_table import open_table
from puma_cli.embedding.shards import forget, records
from puma_cli.errors import ConfigError, DataError, OutputError
from puma_cli.models.embedder import Embedder
from puma_cli.searching.index import open_index
from tests.embedding.conftest import Make
from tests.embedding.test_embed import files_of_at_most, held, stop_after

lancedb = pytest.importorskip("lancedb")


def rows_of(folder: Path) -> list[tuple[str, int]]:
    table = open_table(folder).to_arrow()
    return sorted(zip(table["id"].to_pylist(), table["shard"].to_pylist(), strict=True))


@pytest.mark.parametrize("store_dtype", ["float32", "float16"])
def test_the_table_finds_what_files_find(
    make: Make, lines: Path, store_dtype: str, embedder: Embedder
) -> None:
    settings = make(lines, format="lancedb", store_dtype=store_dtype)
    embed(settings)
    files = make(lines, store_dtype=store_dtype, output_dir=settings.output_dir.with_name("files"))
    embed(files)
    rows, vectors = held(files.output_dir)
    index, other = open_index(settings.output_dir), open_index(files.output_dir)
    assert len(index) == len(other) == 23
    queries = vectors[::5].float()
    for found, expected in zip(index.nearest(queries, 4), other.nearest(queries, 4), strict=True):
        assert [hit.row for hit in found] == [hit.row for hit in expected]
        torch.testing.assert_close(
            [hit.score for hit in found], [hit.score for hit in expected], atol=1e-6, rtol=0
        )
    assert rows[0].id == "1"


def test_it_goes_on_and_holds_nothing_twice(
    make: Make, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make(lines, format="lancedb")
    # Its third shard is in the table, and its record is not.
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        embed(settings)
    monkeypatch.undo()
    assert len(rows_of(settings.output_dir)) == 12
    assert len(records(settings.output_dir)) == 2
    result = embed(settings)
    assert (result.rows, result.embedded) == (23, 15)
    assert rows_of(settings.output_dir) == sorted((str(n), (n - 1) // 4) for n in range(1, 24))
    forget(settings.output_dir, 1)
    assert embed(settings).embedded == 4
    assert len(rows_of(settings.output_dir)) == 23


def test_rows_that_went_are_noticed_and_made_again(make: Make, lines: Path) -> None:
    settings = make(lines, format="lancedb")
    embed(settings)
    open_table(settings.output_dir).delete("id = '9'")
    with pytest.raises(DataError, match="damaged") as caught:
        open_index(settings.output_dir)
    assert "22 rows; 23 were written" in caught.value.cause
    assert embed(settings).embedded == 4
    assert len(open_index(settings.output_dir)) == 23


def test_a_table_that_went_is_noticed_and_made_again(make: Make, lines: Path) -> None:
    settings = make(lines, format="lancedb")
    embed(settings)
    shutil.rmtree(settings.output_dir / "vectors.lance")
    with pytest.raises(DataError, match="damaged or missing"):
        open_index(settings.output_dir)
    assert embed(settings).embedded == 23


def test_a_full_disk_is_said_and_what_is_whole_is_kept(make: Make, tmp_path: Path) -> None:
    noise = "".join(random.Random(0).choices(string.ascii_letters, k=200_000))
    texts = [f"text {n}" for n in range(20)]
    texts[9] = noise
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(texts) + "\n")
    settings = make(path, format="lancedb")
    with files_of_at_most(100_000), pytest.raises(OutputError, match="disk is full"):
        embed(settings)
    assert [record.number for record in records(settings.output_dir)] == [0, 1]
    result = embed(settings)
    assert (result.rows, result.embedded) == (20, 12)
    assert len(rows_of(settings.output_dir)) == 20


def test_int8_is_not_possible(make: Make, lines: Path) -> None:
    with pytest.raises(ConfigError, match="int8") as caught:
        embed(make(lines, format="lancedb", store_dtype="int8"))
    assert "float16" in caught.value.hint
