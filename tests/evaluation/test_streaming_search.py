"""Search over vectors in memory and in files, in fp32 and by way of bf16, against fp64 sorts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

import puma_cli.evaluation.search as searching
from puma_cli.encoding.mapped import Mapped
from puma_cli.errors import DataError, NumericError
from puma_cli.evaluation.faiss_search import search_with_faiss
from puma_cli.evaluation.ranking import TIE
from puma_cli.evaluation.scanning import pair_scores, rounding
from puma_cli.evaluation.search import rank_relevant, search, search_and_rank


def unit(rows: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, width, generator=generator), dim=1).to(dtype)


def with_doubles(rows: int, width: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Vectors of which about half come more than once, and some differ in the last digit only."""
    generator = torch.Generator().manual_seed(seed)
    made = unit(rows, width, seed + 1, dtype)
    again = torch.randint(rows, (rows // 2,), generator=generator)
    made[torch.randint(rows, (rows // 2,), generator=generator)] = made[again]
    near = torch.randint(rows, (rows // 8,), generator=generator)
    made[near, 0] *= 1 + 2 * torch.finfo(dtype).eps
    return made


def by_fp64(queries: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    scores = (queries.double() @ candidates.double().T).float()
    kept = scores.sort(dim=1, descending=True, stable=True)
    return kept.values[:, :k], kept.indices[:, :k]


@pytest.fixture(params=["fp32", "bf16"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Search by way of fp32 products, and of bf16 products on every machine and pool."""
    rough = request.param == "bf16"
    monkeypatch.setattr(searching, "bf16_is_faster", lambda: rough)
    monkeypatch.setattr(searching, "_MANY", 0)
    return str(request.param)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_vectors_are_found_as_in_fp64(way: str, dtype: torch.dtype) -> None:
    """Sums of their products are exact in fp64, so order and ties have to be exactly these."""

    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(0, 10_000),
        st.integers(1, 70),
        st.sampled_from([1, 7, 64, 100, 333, 1000]),
        st.sampled_from([1, 3, 10, 2000]),
    )
    def check(seed: int, width: int, chunk: int, k: int) -> None:
        queries = unit(9, width, seed, dtype)
        candidates = with_doubles(300, width, seed, dtype)
        scores, places = search(queries, candidates, k, candidate_chunk=chunk, query_chunk=4)
        wanted, order = by_fp64(queries, candidates, k)
        assert torch.equal(places, order)
        assert torch.equal(scores, wanted)

    check()


def test_every_chunk_gives_the_same_bits(way: str) -> None:
    queries, candidates = unit(30, 48, 0), with_doubles(2000, 48, 5, torch.float32)
    first = search(queries, candidates, 40)
    relevant = [[q, 7 * q] for q in range(30)]
    ranks = rank_relevant(queries, candidates, relevant)
    for chunk in (1, 17, 64, 500, 1999):
        found = search(queries, candidates, 40, candidate_chunk=chunk, query_chunk=chunk)
        assert torch.equal(found[0], first[0]) and torch.equal(found[1], first[1])
        again = rank_relevant(queries, candidates, relevant, candidate_chunk=chunk)
        assert (again.positions == ranks.positions).all() and (again.ties == ranks.ties).all()


@pytest.mark.parametrize("make", [lambda: torch.ones(3000, 1), lambda: -torch.ones(3000, 1)])
def test_a_collapsed_pool_gives_its_first_candidates(way: str, make: Callable[[], Tensor]) -> None:
    candidates = normalize(make().expand(3000, 24) + 0.1 * torch.arange(24), dim=1).contiguous()
    for chunk in (100, 1000, 3000):
        _, places = search(unit(5, 24, 0), candidates, 7, candidate_chunk=chunk)
        assert places.tolist() == [list(range(7))] * 5


@pytest.mark.parametrize("ascending", [False, True])
def test_a_pool_sorted_by_score_keeps_little(way: str, ascending: bool) -> None:
    """In ascending order every block has better candidates than all before it."""
    cosines = torch.linspace(-0.9, 0.9, 5000, dtype=torch.float64)
    cosines = cosines if ascending else cosines.flip(0)
    candidates = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1).float()
    queries = torch.tensor([[1.0, 0.0]]).expand(6, 2)
    _, places = search(queries, candidates, 50, candidate_chunk=256)
    assert places.tolist() == [(list(range(4999, 4949, -1)) if ascending else list(range(50)))] * 6


def test_ranks_equal_counts_in_fp64() -> None:
    queries = unit(12, 32, 3, torch.float16)
    candidates = with_doubles(700, 32, 4, torch.float16)
    relevant = [[q, q + 100, q + 200] for q in range(12)]
    exact = (queries.double() @ candidates.double().T).float()
    for chunk in (5, 64, 700):
        ranks = rank_relevant(queries, candidates, relevant, candidate_chunk=chunk)
        for q, places in enumerate(relevant):
            others = exact[q].clone()
            others[places] = -torch.inf
            wanted = sorted(exact[q, places].tolist(), reverse=True)
            bounds = [torch.tensor(w) - TIE for w in wanted]
            expected = [int((others >= b).sum()) + 1 + n for n, b in enumerate(bounds)]
            assert ranks.positions[q, :3].tolist() == expected


def test_one_pass_gives_what_two_give() -> None:
    queries, candidates = unit(20, 16, 0), with_doubles(500, 16, 1, torch.float32)
    relevant = [[q] if q % 3 else [] for q in range(20)]
    (scores, places), ranks = search_and_rank(queries, candidates, 25, relevant)
    alone = search(queries, candidates, 25)
    assert torch.equal(scores, alone[0]) and torch.equal(places, alone[1])
    assert (ranks.positions == rank_relevant(queries, candidates, relevant).positions).all()


def shards(folder: Path, vectors: Tensor, sizes: Sequence[int]) -> Mapped:
    paths = []
    for number, part in enumerate(vectors.split(list(sizes))):
        path = folder / f"{number}.npy"
        if number % 2 or vectors.dtype == torch.bfloat16:
            path = folder / f"{number}.safetensors"
            save_file({"vectors": part.contiguous()}, path)
        else:
            np.save(path, part.numpy())
        paths.append(path)
    return Mapped(paths)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_files_are_searched_as_memory_is(tmp_path: Path, way: str, dtype: torch.dtype) -> None:
    vectors = with_doubles(1000, 24, 2, dtype)
    mapped = shards(tmp_path, vectors, (300, 1, 199, 500))
    assert (len(mapped), mapped.dimension) == (1000, 24)
    assert torch.equal(mapped.rows(250, 620), vectors[250:620])
    assert torch.equal(mapped.rows(990, 2000), vectors[990:])
    assert mapped.rows(5, 5).shape == (0, 24)
    picked = [999, 0, 300, 300, 299, 301]
    assert torch.equal(mapped.take(picked), vectors[picked])
    queries = unit(8, 24, 9, dtype)
    for chunk in (64, 5000):
        found, expected = (
            search(queries, pool, 20, candidate_chunk=chunk) for pool in (mapped, vectors)
        )
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_broken_files_are_named(tmp_path: Path) -> None:
    good, cube, words = (tmp_path / name for name in ("good.npy", "cube.npy", "words.npy"))
    np.save(good, np.zeros((3, 4), np.float16))
    np.save(cube, np.zeros((3, 4, 5), np.float16))
    words.write_text("no numbers")
    cut = tmp_path / "cut.safetensors"
    save_file({"vectors": torch.zeros(3, 4)}, cut)
    cut.write_bytes(cut.read_bytes()[:-8])
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((3, 5), np.float16))
    for path in (cube, words, cut, tmp_path / "missing.npy"):
        with pytest.raises(DataError, match=path.name):
            Mapped([path])
    with pytest.raises(DataError, match=r"other\.npy"):
        Mapped([good, other])


def test_a_fault_while_reading_ahead_reaches_the_caller(tmp_path: Path) -> None:
    vectors = unit(500, 8, 0, torch.float16)
    vectors[400, 2] = torch.nan
    mapped = shards(tmp_path, vectors, (250, 250))
    with pytest.raises(NumericError, match="1 of 50 candidate"):
        search(unit(2, 8, 1), mapped, 3, candidate_chunk=50)

    class Failing(Mapped):
        def rows(self, start: int, stop: int) -> Tensor:
            if start >= 200:
                raise DataError("The disk is gone.")
            return super().rows(start, stop)

    failing = Failing([tmp_path / "0.npy", tmp_path / "1.safetensors"])
    with pytest.raises(DataError, match="disk is gone"):
        search(unit(2, 8, 1), failing, 3, candidate_chunk=50)


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(DataError, match=r"8 dimensions .* 9"):
        search(unit(2, 8, 0), unit(5, 9, 0), 1)


def test_a_pair_scores_the_same_in_any_company() -> None:
    queries, candidates = unit(40, 333, 0), unit(40, 333, 1)
    everything = torch.arange(40)
    together = pair_scores(queries, candidates, everything, everything)
    for place in range(40):
        one = torch.tensor([place])
        assert torch.equal(pair_scores(queries, candidates, one, one), together[one])


@pytest.mark.parametrize("width", [1, 8, 64, 512, 2048])
def test_products_are_within_the_stated_error(width: int) -> None:
    queries, candidates = unit(200, width, 0), unit(3000, width, 1)
    # Equal vectors have terms of one sign, where errors are largest.
    candidates[:200] = queries
    wrong = (queries @ candidates.T).double() - queries.double() @ candidates.double().T
    assert wrong.abs().max() < rounding(width)


def test_faiss_finds_the_same_candidates() -> None:
    pytest.importorskip("faiss")
    queries, candidates = unit(20, 32, 0), unit(3000, 32, 1)
    scores, places = search(queries, candidates, 15)
    for block in (7, 1000, 5000):
        found, where = search_with_faiss(queries, candidates, 15, block)
        assert torch.equal(where, places)
        assert torch.allclose(found, scores, atol=1e-6)
