"""On real pools, faiss and LanceDB find what exact search finds; of their own indexes, a share.

`EMOJI_ROOT` names a data set in the M-BEIR layout.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.embed import embed
from puma_cli.embedding.index_file import read_description, write_description
from puma_cli.embedding.shards import commit, records
from puma_cli.embedding.sinks import open_sink
from puma_cli.evaluation.faiss_search import search_with_faiss
from puma_cli.searching.index import FileIndex, Index, open_index
from puma_cli.searching.recall import recall

pytestmark = pytest.mark.data

QUERIES, DEPTH = 300, 10


def root() -> Path:
    if "EMOJI_ROOT" not in os.environ:
        pytest.skip("EMOJI_ROOT is not set")
    return Path(os.environ["EMOJI_ROOT"])


def embedded(folder: Path, path: Path, side: str, instruction: str | None = None) -> FileIndex:
    embed(EmbedSettings("puma-mini", (str(path),), folder, side, instruction, device="cpu"))
    index = open_index(folder)
    assert isinstance(index, FileIndex)
    return index


def as_table(index: FileIndex, source: Path, folder: Path) -> Index:
    """Return the same vectors as a table of LanceDB."""
    folder.mkdir()
    copytree(source / "shards", folder / "shards", ignore=lambda *_: ["000000.npy"])
    sink = open_sink(folder, "lancedb", "float32", index.vectors.dimension)
    start = 0
    for record in records(source):
        stop = start + record.rows
        rows = [index.vectors.row(place) for place in range(start, stop)]
        sink.write(record.number, index.vectors.rows(start, stop), rows)
        commit(folder, replace(record, files=()))
        start = stop
    sink.finish()
    write_description(folder, replace(read_description(source), format="lancedb"))
    return open_index(folder)


def found(index: Index, queries: torch.Tensor) -> list[set[object]]:
    return [{hit.row.id for hit in hits} for hits in index.nearest(queries, DEPTH)]


@pytest.mark.parametrize("task", [0, 1, 2])
def test_libraries_find_what_exact_search_finds(tmp_path: Path, task: int) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("lancedb")
    pool = root() / "cand_pool" / "local" / f"mbeir_emoji_task{task}_cand_pool.jsonl"
    asked = tmp_path / "queries.jsonl"
    lines = (
        (root() / "query" / "test" / f"mbeir_emoji_task{task}_test.jsonl").read_text().splitlines()
    )
    rows = [json.loads(line) for line in lines[:QUERIES]]
    for row in rows:
        if row["query_img_path"]:
            row["query_img_path"] = str(root() / row["query_img_path"])
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = embedded(tmp_path / "files", pool, "document")
    stored = embedded(tmp_path / "asked", asked, "query", "Find the picture.").vectors
    queries = stored.rows(0, len(stored)).clone()

    exact = files.nearest(queries, DEPTH)
    ids: list[set[object]] = [{hit.row.id for hit in hits} for hits in exact]
    scores, places = search_with_faiss(queries, files.vectors, DEPTH)
    for hits, line, row in zip(exact, scores.tolist(), places.tolist(), strict=True):
        assert [hit.score for hit in hits] == pytest.approx(line, abs=1e-5)
        # But for candidates that are the same, of which each may take some.
        last = hits[-1].score
        sure = {hit.row.id for hit in hits if hit.score > last + 1e-5}
        assert sure <= {files.vectors.row(place).id for place in row}
    table = as_table(files, tmp_path / "files", tmp_path / "table")
    for hits, others in zip(exact, table.nearest(queries, DEPTH), strict=True):
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in others], abs=1e-5)
        last = hits[-1].score
        sure = {hit.row.id for hit in hits if hit.score > last + 1e-5}
        assert sure <= {hit.row.id for hit in others}
    for index in (files, table):
        index.approximate_from_now()
        assert recall(found(index, queries), ids) >= 0.97, index.approximate
