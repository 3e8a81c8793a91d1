"""The indexes of faiss and LanceDB: what they find, that they say so, and that they stay fresh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.index_file import SCHEMA, IndexDescription, write_description
from puma_cli.embedding.rows import Row
from puma_cli.embedding.shards import ShardRecord, commit
from puma_cli.embedding.sinks import open_sink
from puma_cli.errors import DataError
from puma_cli.searching.found import Hit
from puma_cli.searching.index import open_index
from puma_cli.searching.recall import recall, sample_places

DIMENSIONS, ROWS = 24, 1_500


def make(folder: Path, form: str, vectors: torch.Tensor, shard: int = 500) -> Path:
    """Write an index of given vectors."""
    folder.mkdir(exist_ok=True)
    asked = EmbedSettings("m", ("x",), folder)
    sink = open_sink(folder, form, asked.store_dtype, vectors.shape[1])
    for number, start in enumerate(range(0, len(vectors), shard)):
        some = vectors[start : start + shard]
        rows = [Row(str(start + n), f"text {start + n}") for n in range(len(some))]
        files = sink.write(number, some, rows)
        commit(folder, ShardRecord(number, len(some), len(some), 0, 0, "", files))
    sink.finish()
    write_description(
        folder,
        IndexDescription(
            schema=SCHEMA,
            model="m",
            fingerprint="f",
            parents=(),
            model_dimension=vectors.shape[1],
            dimensions=vectors.shape[1],
            side="document",
            instruction=None,
            format=form,
            store_dtype="float32",
            compute_dtype="float32",
            inputs=("x",),
            shard_rows=shard,
            complete=True,
            rows=len(vectors),
            shards=-(-len(vectors) // shard),
        ),
    )
    return folder


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    """Points around some centres, as embeddings are."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(30, DIMENSIONS, generator=draw)
    near = centres[torch.arange(ROWS) % 30] + 0.5 * torch.randn(ROWS, DIMENSIONS, generator=draw)
    return normalize(near, dim=-1)


def ids(hits: tuple[Hit, ...]) -> list[str]:
    return [hit.row.id for hit in hits]


@pytest.mark.parametrize(("form", "package"), [("npy", "faiss"), ("lancedb", "lancedb")])
def test_what_is_found_and_how_well_is_said(
    tmp_path: Path, vectors: torch.Tensor, form: str, package: str
) -> None:
    pytest.importorskip(package)
    folder = make(tmp_path / "index", form, vectors)
    index = open_index(folder)
    queries = normalize(
        vectors[7::150]
        + 0.1 * torch.randn(10, DIMENSIONS, generator=torch.Generator().manual_seed(1)),
        dim=-1,
    )
    exact = index.nearest(queries, 10)
    assert index.approximate == ""
    index.approximate_from_now()
    found = index.nearest(queries, 10)
    share = recall([set(ids(hits)) for hits in found], [set(ids(hits)) for hits in exact])
    assert share >= 0.9
    assert "Approximate, by" in index.approximate and "% of the 10 nearest" in index.approximate
    # What is found has its exact score, and comes in the order of these.
    scores = {hit.row.id: hit.score for hits in exact for hit in hits}
    for hits in found:
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for hit in hits:
            place = int(hit.row.id)
            assert hit.row.text == f"text {place}"
            if hit.row.id in scores:
                best = (queries.double() @ vectors[place].double()).float()
                assert min(abs(float(b) - hit.score) for b in best) < 1e-6


def test_faisss_index_is_kept_and_made_again_when_it_must(
    tmp_path: Path, vectors: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    from puma_cli.searching import faiss_index

    folder = make(tmp_path / "index", "npy", vectors)
    open_index(folder).approximate_from_now()
    made = json.loads((folder / "faiss" / "faiss.json").read_text())
    assert made["rows"] == ROWS and 0.9 <= made["recall"] <= 1
    before = (folder / "faiss" / "vectors.faiss").stat().st_mtime_ns
    calls: list[int] = []
    original = faiss_index._make

    def counted(*given):  # type: ignore[no-untyped-def]
        calls.append(1)
        return original(*given)

    monkeypatch.setattr(faiss_index, "_make", counted)
    open_index(folder).approximate_from_now()
    assert not calls
    assert (folder / "faiss" / "vectors.faiss").stat().st_mtime_ns == before
    # Damaged.
    (folder / "faiss" / "vectors.faiss").write_bytes(b"no index")
    open_index(folder).approximate_from_now()
    # Of other vectors.
    make(folder, "npy", vectors.flip(0))
    index = open_index(folder)
    index.approximate_from_now()
    assert len(calls) == 2
    assert index.nearest(vectors[:1], 1)[0][0].row.id == str(ROWS - 1)


def test_few_vectors_are_searched_too(tmp_path: Path, vectors: torch.Tensor) -> None:
    pytest.importorskip("faiss")
    index = open_index(make(tmp_path / "index", "npy", vectors[:5]))
    exact = index.nearest(vectors[:2], 10)
    index.approximate_from_now()
    assert [ids(hits) for hits in index.nearest(vectors[:2], 10)] == [ids(hits) for hits in exact]
    assert "100.0%" in index.approximate


def test_a_shard_that_is_gone_is_noticed(tmp_path: Path, vectors: torch.Tensor) -> None:
    folder = make(tmp_path / "index", "npy", vectors)
    (folder / "shards" / "000001.npy").unlink()
    with pytest.raises(DataError, match="missing"):
        open_index(folder)


def test_samples_are_spread_evenly() -> None:
    assert sample_places(10, 5) == [0, 2, 4, 6, 8]
    assert sample_places(3, 100) == [0, 1, 2]
    assert recall([{1, 2}, {3}], [{1, 4}, {3, 5}]) == 0.5
