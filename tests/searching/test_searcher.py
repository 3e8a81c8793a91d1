"""What a search finds, against a naive one, on every kind of index."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import puma_cli
from puma_cli.config.index_settings import SearchSettings
from puma_cli.embedding.rows import Row
from puma_cli.errors import ConfigError, DataError
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.searching.index import FileIndex
from puma_cli.searching.searcher import open_searcher, query_row
from tests.searching.conftest import Make

QUERIES = ("red thing", "kind 7", "find the picture")


@pytest.mark.parametrize("form", ["npy", "safetensors", "parquet", "lancedb"])
@pytest.mark.parametrize("store_dtype", ["float32", "float16", "int8"])
def test_results_are_those_of_a_naive_search(
    make_index: Make, tiny_checkpoint: Path, shop: Path, form: str, store_dtype: str
) -> None:
    if form == "lancedb":
        pytest.importorskip("lancedb")
        if store_dtype == "int8":
            pytest.skip("LanceDB has no scales")
    index = make_index(format=form, store_dtype=store_dtype)
    settings = SearchSettings(str(tiny_checkpoint), index, top_k=7, device="cpu")
    searcher = open_searcher(settings)
    answers = searcher.search([query_row(text) for text in QUERIES])
    files = puma_cli.open_searcher(
        SearchSettings(str(tiny_checkpoint), make_index(store_dtype=store_dtype), device="cpu")
    ).index
    assert isinstance(files, FileIndex)
    vectors = files.vectors.rows(0, 40).double()
    embedder = load(tiny_checkpoint, "cpu")
    queries = embedder.encode([Input(text=text) for text in QUERIES]).double()
    scores = queries @ vectors.T
    for answer, row, text in zip(answers, scores, QUERIES, strict=True):
        best = row.sort(descending=True, stable=True)
        assert answer.query.text == text
        assert [hit.rank for hit in answer.hits] == list(range(1, 8))
        found = torch.tensor([hit.score for hit in answer.hits]).double()
        torch.testing.assert_close(found, best.values[:7], atol=2e-6, rtol=0)
        ids = [f"thing-{place}" for place in best.indices[:7].tolist()]
        # Where texts are the same, another may stand in its place.
        same = [
            int(hit.row.id[6:]) % 31 == int(name[6:]) % 31
            for hit, name in zip(answer.hits, ids, strict=True)
        ]
        assert all(same)
    first = answers[0].hits[0].row
    number = int(first.id.removeprefix("thing-"))
    assert first.metadata == {"price": number}
    assert first.image == (None if number % 4 else shop / f"{number}.png")


def test_fewer_dimensions_are_asked_in_fewer(make_index: Make, tiny_checkpoint: Path) -> None:
    settings = SearchSettings(str(tiny_checkpoint), make_index(dimensions=6), device="cpu")
    searcher = open_searcher(settings)
    assert isinstance(searcher.index, FileIndex)
    (answer,) = searcher.search([query_row("kind 3")])
    embedder = load(tiny_checkpoint, "cpu")
    query = torch.nn.functional.normalize(embedder.encode([Input("kind 3")])[:, :6], dim=-1)
    best = (query @ searcher.index.vectors.rows(0, 40).T)[0].max()
    assert answer.hits[0].score == pytest.approx(float(best), abs=1e-5)
    assert len(answer.hits) == 10


def test_a_picture_finds_itself(make_index: Make, tiny_checkpoint: Path, shop: Path) -> None:
    searcher = open_searcher(SearchSettings(str(tiny_checkpoint), make_index(), device="cpu"))
    query = query_row("a thing of kind 8 in red", shop / "8.png")
    (answer,) = searcher.search([query])
    assert answer.hits[0].row.id == "thing-8"
    assert answer.hits[0].score == pytest.approx(1.0, abs=1e-5)


def test_any_number_of_queries_streams_by(make_index: Make, tiny_checkpoint: Path) -> None:
    settings = SearchSettings(
        str(tiny_checkpoint), make_index(), top_k=100, batch_size=3, device="cpu"
    )
    searcher = open_searcher(settings)
    rows = [Row(str(n), f"kind {n}") for n in range(8)]
    answers = list(searcher.answers(iter(rows)))
    assert [answer.query for answer in answers] == rows
    # No more than there are.
    assert {len(answer.hits) for answer in answers} == {40}


def test_an_unfinished_index_says_so(
    tiny_checkpoint: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from puma_cli.config.index_settings import EmbedSettings
    from puma_cli.embedding.embed import embed
    from tests.embedding.test_embed import stop_after

    stop_after(monkeypatch, 2)
    asked = EmbedSettings(
        str(tiny_checkpoint),
        (str(shop / "things.jsonl"),),
        tmp_path / "index",
        shard_rows=8,
        device="cpu",
    )
    with pytest.raises(KeyboardInterrupt):
        embed(asked)
    settings = SearchSettings(str(tiny_checkpoint), tmp_path / "index", top_k=40, device="cpu")
    searcher = open_searcher(settings)
    assert "not finished: 16 vectors so far" in searcher.remarks[0]
    (answer,) = searcher.search([query_row("red")])
    assert {int(hit.row.id[6:]) for hit in answer.hits} == set(range(16))


def test_what_is_no_index_is_said(tiny_checkpoint: Path, tmp_path: Path, make_index: Make) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_searcher(SearchSettings(str(tiny_checkpoint), tmp_path / "gone"))
    with pytest.raises(DataError, match="no index of vectors") as caught:
        open_searcher(SearchSettings(str(tiny_checkpoint), tiny_checkpoint))
    assert "puma embed MODEL" in caught.value.hint
    with pytest.raises(ConfigError, match="top_k"):
        open_searcher(SearchSettings(str(tiny_checkpoint), make_index(), top_k=0))
    with pytest.raises(DataError, match="neither"):
        query_row("  ")
