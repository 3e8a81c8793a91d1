"""Streamed similarities against naive float64 loops, and their indifference to batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.errors import NumericError
from puma_cli.profiling.similarity.accumulator import (
    TEMPORARY_BYTES,
    SimilarityAccumulator,
    rows_at_once,
)
from puma_cli.profiling.similarity.cka import unbiased_cka
from puma_cli.profiling.similarity.measures import LayerSimilarity
from puma_cli.profiling.similarity.tokens import top_dimensions
from tests.profiling.similarity.test_cka import peak_bytes

Pairwise = Callable[[list[float], list[float]], float]


def measure(
    states: torch.Tensor,
    batch: int = 7,
    removed: torch.Tensor | None = None,
    kept: torch.Tensor | None = None,
) -> LayerSimilarity:
    depth = len(states) - 1
    accumulator = SimilarityAccumulator("query", "text", depth, removed=removed)
    for low in range(0, states.shape[1], batch):
        part = None if kept is None else kept[low : low + batch]
        accumulator.add(states[:, low : low + batch], part)
    return accumulator.result()


def naive_cosine(left: list[float], right: list[float]) -> float:
    inner = math.fsum(a * b for a, b in zip(left, right, strict=True))
    lengths = math.fsum(a * a for a in left) * math.fsum(b * b for b in right)
    return inner / math.sqrt(lengths)


def naive_angle(left: list[float], right: list[float]) -> float:
    return math.acos(max(-1.0, min(1.0, naive_cosine(left, right)))) / math.pi


def flatten(found: LayerSimilarity) -> list[float | None]:
    grids: list[Any] = [found.cosine_grid, found.angular_grid, found.centred_grid]
    grids += [found.trimmed_grid, found.cka or ()]
    return [value for grid in grids for row in grid for value in row]


def assert_close(found: LayerSimilarity, expected: LayerSimilarity) -> None:
    left, right = flatten(found), flatten(expected)
    assert [value is None for value in left] == [value is None for value in right]
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    assert max(abs(a - b) for a, b in pairs) < 1e-9


def test_every_entry_equals_the_naive_reference() -> None:
    torch.manual_seed(0)
    depth, rows, width = 5, 23, 16
    states = torch.randn(depth + 1, rows, width).cumsum(0) + 3.0
    removed = [3, 11]
    kept = torch.arange(rows) % 3 != 0
    found = measure(states, removed=torch.tensor(removed), kept=kept)
    wide = states.double().tolist()
    mean = [[math.fsum(row[d] for row in h) / rows for d in range(width)] for h in wide]
    rest = [
        [row[d] - m[d] for row in h for d in range(width)] for h, m in zip(wide, mean, strict=True)
    ]
    short = [[[v for d, v in enumerate(row) if d not in removed] for row in h] for h in wide]

    def average(measure_pair: Pairwise, rows_of: list[list[list[float]]], k: int, m: int) -> float:
        return math.fsum(map(measure_pair, rows_of[k], rows_of[m])) / rows

    assert [len(row) for row in found.cosine_grid] == [5, 4, 3, 2, 1]
    for low in range(depth):
        for n in range(1, depth - low + 1):
            for grid, expected in (
                (found.cosine_grid, average(naive_cosine, wide, low, low + n)),
                (found.angular_grid, average(naive_angle, wide, low, low + n)),
                (found.trimmed_grid, average(naive_cosine, short, low, low + n)),
                (found.centred_grid, naive_cosine(rest[low], rest[low + n])),
            ):
                assert grid[low][n - 1] == pytest.approx(expected, abs=1e-12)
    assert found.cka == tuple(map(tuple, unbiased_cka(states[:, kept]).tolist()))


def test_rotation_by_a_known_angle_in_every_layer() -> None:
    turns, states, turned = [20.0, 40.0, 0.0], [], 0.0
    for turn in [0.0, *turns]:
        turned += math.radians(turn)
        vector = torch.tensor([[math.cos(turned), math.sin(turned), 0.0]], dtype=torch.float64)
        states.append(vector.repeat(4, 1) * (1 + turned))
    found = measure(torch.stack(states), batch=3)
    assert found.count == 4
    for row, expected in zip(found.angular_grid, [(20, 60, 60), (40, 40), (0,)], strict=True):
        assert row == pytest.approx([angle / 180 for angle in expected], abs=1e-7)
    cosines = [math.cos(math.radians(turn)) for turn in turns]
    assert found.block_influence == pytest.approx([1 - c for c in cosines], abs=1e-12)
    # Every input is the same, so nothing is left about the mean.
    assert found.centred_grid == ((None,) * 3, (None,) * 2, (None,))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.permutations(range(12)), st.data())
def test_any_split_and_order_of_batches_gives_the_same(
    seed: int, rows: int, order: list[int], data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(4, rows, 5, generator=generator).cumsum(0)
    # A large common direction, a depth without spread, two equal depths, a row lost by trimming.
    states[..., 0] += 50.0
    states[0] = states[0, :1]
    states[3] = states[2]
    if data.draw(st.booleans()):
        states[1, 0, 1:] = 0.0
    kept = torch.rand(rows, generator=generator) < 0.7
    removed = torch.tensor([0])
    whole = measure(states, batch=rows, removed=removed, kept=kept)
    shuffled = torch.tensor([place for place in order if place < rows])
    cuts = sorted(data.draw(st.sets(st.integers(0, rows), max_size=4)))
    accumulator = SimilarityAccumulator("query", "text", 3, removed=removed)
    for low, high in zip([0, *cuts], [*cuts, rows], strict=True):
        part = shuffled[low:high]
        accumulator.add(states[:, part], kept[part])
    found = accumulator.result()
    assert found.count == rows
    assert (found.cka is None) == (int(kept.sum()) < 4)
    assert found.angular_grid[2] == (0.0,)
    assert_close(found, whole)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(9)), st.integers(1, 9))
def test_block_influence_does_not_depend_on_the_order_of_batches(
    seed: int, order: list[int], batch: int
) -> None:
    states = torch.randn(4, 9, 6, generator=torch.Generator().manual_seed(seed))
    found = measure(states[:, order], batch=batch).block_influence
    assert found == pytest.approx(measure(states).block_influence, abs=1e-12)
    assert len(set(found)) == 3


def test_chunks_within_a_batch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    states = torch.randn(3, 20, 8) + 2.0
    removed, kept = torch.tensor([1]), torch.ones(20, dtype=torch.bool)
    whole = measure(states, 20, removed, kept)
    monkeypatch.setattr("puma_cli.profiling.similarity.accumulator.TEMPORARY_BYTES", 4000)
    assert 1 < rows_at_once(3, 8) < 10
    assert_close(measure(states, 20, removed, kept), whole)
    # A row that is too large is measured nevertheless.
    assert rows_at_once(29, 8192) == 1


@pytest.mark.parametrize(("depths", "width"), [(29, 1536), (13, 192), (29, 16)])
def test_temporaries_stay_within_their_bound(depths: int, width: int) -> None:
    rows = rows_at_once(depths, width)
    states = torch.randn(depths, 3 * rows, width).bfloat16()
    accumulator = SimilarityAccumulator("query", "text", depths - 1, removed=torch.tensor([0]))
    accumulator.add(states[:, :1])
    peak = peak_bytes(lambda: accumulator.add(states))
    assert 0.5 * TEMPORARY_BYTES < peak < TEMPORARY_BYTES


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_identical_states_have_angle_exactly_zero(dtype: torch.dtype) -> None:
    states = torch.randn(1, 50, 64).to(dtype).expand(4, 50, 64)
    assert measure(states).angular_grid == ((0.0, 0.0, 0.0), (0.0, 0.0), (0.0,))


def test_half_precision_does_not_overflow() -> None:
    states = torch.full((2, 5, 64), 3e4, dtype=torch.float16)
    states[1, :, ::2] *= -1
    # A spacing of 16 is the finest there is at 3e4.
    states[0, :, 0] += 16.0 * torch.arange(5)
    states[1, :, 0] -= 16.0 * torch.arange(5)
    assert not states.square().isfinite().any()
    found = measure(states, kept=torch.ones(5, dtype=torch.bool))
    wide = states.double()
    expected = torch.nn.functional.cosine_similarity(wide[0], wide[1], dim=-1).mean().item()
    assert found.cosine == pytest.approx([expected], abs=1e-12)
    assert found.centred == pytest.approx([-1.0])
    assert found.cka is not None and found.cka[0][1] == pytest.approx(1.0)


def test_one_massive_activation_fools_plain_cosine_only() -> None:
    torch.manual_seed(2)
    states = torch.randn(3, 64, 3584)
    states[:, :, 1000] = 200.0
    removed = top_dimensions(states)
    assert removed[0] == 1000
    kept = torch.ones(64, dtype=torch.bool)
    found = measure(states, removed=removed, kept=kept)
    # 200^2 / (200^2 + 3584) = 0.918, between vectors that share nothing else.
    assert found.cosine == pytest.approx([0.918] * 2, abs=0.002)
    assert found.cka is not None
    for fair in (found.centred_grid[0], found.trimmed_grid[0], found.cka[0][1:]):
        values = [value for value in fair if value is not None]
        assert len(values) == 2
        assert max(map(abs, values)) < 0.1


def test_a_large_common_direction_costs_no_digits() -> None:
    torch.manual_seed(3)
    small = torch.randn(3, 40, 8, dtype=torch.float64)
    plain = measure(small).centred
    shifted = measure(small + 1e5 * torch.ones(8), batch=3).centred
    assert None not in plain
    assert shifted == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("rows", [6, 7, 11, 13])
def test_undefined_entries_are_none_and_only_those(rows: int) -> None:
    torch.manual_seed(4)
    # In float64, where the mean of equal numbers is off by its rounding.
    states = torch.randn(4, rows, 5, dtype=torch.float64)
    states[1] = states[1, :1]
    states[2, 3] = torch.tensor([0.0, 7.0, 0.0, 0.0, 0.0])
    kept = torch.ones(rows, dtype=torch.bool)
    found = measure(states, batch=rows, removed=torch.tensor([1]), kept=kept)

    def blank(grid: Any) -> list[list[bool]]:
        return [[value is None for value in row] for row in grid]

    assert blank(found.centred_grid) == [[True, False, False], [True, True], [False]]
    assert blank(found.trimmed_grid) == [[False, True, False], [True, False], [True]]
    assert found.cka is not None
    assert blank(found.cka) == [[1 in (k, m) for m in range(4)] for k in range(4)]
    assert not any(map(any, blank(found.cosine_grid)))


def test_nothing_kept_or_removed_by_default_and_cka_needs_four_rows() -> None:
    states = torch.randn(3, 10, 6)
    kept = torch.zeros(10, dtype=torch.bool)
    kept[[1, 4, 9]] = True
    plain = measure(states)
    assert plain.cka is None
    assert plain.trimmed_grid == plain.cosine_grid
    assert measure(states, kept=kept).cka is None
    kept[7] = True
    found = measure(states, batch=3, kept=kept)
    assert found.count == 10
    assert found.cka == tuple(map(tuple, unbiased_cka(states[:, [1, 4, 7, 9]]).tolist()))


def test_result_can_be_asked_for_on_the_way() -> None:
    states = torch.randn(3, 12, 6)
    kept = torch.ones(6, dtype=torch.bool)
    accumulator = SimilarityAccumulator("candidate", "image", 2, place="tokens")
    accumulator.add(states[:, :6], kept)
    first = accumulator.result()
    assert accumulator.result() == first
    accumulator.add(states[:, 6:], kept)
    assert_close(accumulator.result(), measure(states, kept=kept.repeat(2)))
    assert accumulator.result() != first


def test_counts_and_names() -> None:
    accumulator = SimilarityAccumulator("candidate", "image", 2, place="tokens")
    accumulator.add(torch.randn(3, 4, 6))
    accumulator.add(torch.randn(3, 0, 6))
    accumulator.exclude(2)
    accumulator.exclude(3)
    found = accumulator.result()
    assert accumulator.count == found.count == 4
    assert (found.side, found.modality, found.place) == ("candidate", "image", "tokens")
    assert (found.depth, found.excluded) == (2, 5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_layer_is_named_and_nothing_is_added(value: float) -> None:
    accumulator = SimilarityAccumulator("query", "text", 3)
    states = torch.randn(4, 3, 8)
    states[2, 1, 0] = value
    with pytest.raises(NumericError, match=r"decoder layer 1 is not finite \(query, text\)"):
        accumulator.add(states, torch.ones(3, dtype=torch.bool))
    assert accumulator.count == 0
    accumulator.add(torch.randn(4, 3, 8), torch.ones(3, dtype=torch.bool))
    assert accumulator.result().cka is None


def test_nothing_added() -> None:
    with pytest.raises(NumericError, match="No query of modality 'image'"):
        SimilarityAccumulator("query", "image", 2).result()
    accumulator = SimilarityAccumulator("query", "image", 2, place="tokens")
    accumulator.exclude(9)
    with pytest.raises(NumericError, match=r"measured \(tokens\)") as caught:
        accumulator.result()
    assert "All 9 rows are attention sinks" in caught.value.cause


@pytest.mark.gpu
def test_on_a_gpu_as_on_the_cpu() -> None:
    states = torch.randn(5, 50, 32).bfloat16()
    removed, kept = torch.tensor([3]), torch.arange(50) % 2 == 0
    expected = measure(states, 20, removed, kept)
    assert_close(measure(states.cuda(), 20, removed.cuda(), kept.cuda()), expected)
