"""The formulas of similarity against closed forms, and what the record derives from its grids."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.errors import NumericError
from puma_cli.profiling.similarity.measures import (
    angle_of,
    angular_distance,
    check_states,
    cosine,
    pairwise_cosines,
    unit,
    widen,
)
from tests.profiling.examples import similarity

ANGLES = [0.0, 1e-4, 30.0, 60.0, 90.0, 135.0, 179.9999, 180.0]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("degrees", ANGLES)
def test_angle_closed_form(degrees: float) -> None:
    angle = math.radians(degrees)
    left = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    right = 5 * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    found = angular_distance(unit(left), unit(right))
    assert found.item() == pytest.approx(degrees / 180.0, abs=1e-12, rel=1e-9)
    assert cosine(unit(left), unit(right)).item() == pytest.approx(math.cos(angle), abs=1e-12)


@pytest.mark.parametrize("end", [0.0, 1.0])
@pytest.mark.parametrize("power", range(1, 13))
def test_angle_of_a_cosine_is_right_to_1e_7_near_both_ends(power: int, end: float) -> None:
    angle = abs(end - 10.0**-power)
    found = angle_of(torch.tensor([math.cos(math.pi * angle)], dtype=torch.float64)).item()
    assert abs(found - angle) < 1e-7
    if power > 7:
        assert found == end


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 7, 64, 3584]), st.sampled_from(DTYPES))
def test_identical_vectors_have_angle_zero_and_opposite_ones_one(
    seed: int, width: int, dtype: torch.dtype
) -> None:
    vectors = torch.randn(3, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
    vectors[vectors == 0] = 1.0
    cosines, _ = pairwise_cosines(torch.stack([vectors, vectors, -vectors, 2 * vectors]).double())
    expected = torch.tensor([[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]])
    assert torch.equal(angle_of(cosines), expected.double().expand(3, 4, 4))


def test_cosines_of_all_pairs_are_those_of_each_pair() -> None:
    states = torch.randn(4, 5, 6, dtype=torch.float64)
    cosines, lengths = pairwise_cosines(states)
    assert cosines.shape == (5, 4, 4)
    for row in range(5):
        for first in range(4):
            square = sum(value * value for value in states[first, row].tolist())
            assert lengths[row, first].item() == pytest.approx(square)
            for second in range(4):
                left, right = unit(states[first, row]), unit(states[second, row])
                found = cosines[row, first, second]
                assert found.item() == pytest.approx(cosine(left, right).item(), abs=1e-12)
                angle = angular_distance(left, right).item()
                assert angle_of(found).item() == pytest.approx(angle, abs=1e-7)


def test_a_vector_of_length_zero_has_no_cosine() -> None:
    states = torch.ones(3, 2, 4, dtype=torch.float64)
    states[1, 0] = 0.0
    cosines, _ = pairwise_cosines(states)
    expected = torch.zeros(2, 3, 3, dtype=torch.bool)
    expected[0, 1, :] = expected[0, :, 1] = True
    assert torch.equal(cosines.isnan(), expected)


def test_half_precision_is_widened_before_it_is_squared() -> None:
    large = torch.full((2, 64), 6e4, dtype=torch.float16)
    assert not large.square().isfinite().any()
    assert widen(large).dtype == torch.float64
    assert unit(large).norm(dim=-1).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 3, 7])
def test_broken_layer_is_named(value: float, dtype: torch.dtype, place: int) -> None:
    states = torch.randn(4, 3, 8).to(dtype)
    check_states(states, "query, text")
    states[2, 1, place] = states[3, 0, 0] = value
    with pytest.raises(NumericError, match=r"decoder layer 1 is not finite \(query, text\)"):
        check_states(states, "query, text")


def test_zero_state_is_named() -> None:
    states = torch.ones(3, 3, 8)
    states[:, :, 0] = 0
    states[2, 1] *= -1
    check_states(states, "query, text")
    states[0, 2] = 0
    with pytest.raises(NumericError, match="embedding output is zero"):
        check_states(states, "query, text")


@pytest.mark.parametrize("depth", [1, 2, 12, 40])
def test_record_reads_layers_and_the_way_to_the_end_from_its_grids(depth: int) -> None:
    made = similarity("query", "image", depth=depth)
    assert made.depth == depth
    assert [len(row) for row in made.angular_grid] == list(range(depth, 0, -1))
    for layer in range(depth):
        assert made.cosine[layer] == made.cosine_grid[layer][0]
        assert made.block_influence[layer] == 1.0 - made.cosine_grid[layer][0]
        assert made.angular[layer] == made.angular_grid[layer][0]
        assert made.centred[layer] == made.centred_grid[layer][0]
        assert made.trimmed[layer] == made.trimmed_grid[layer][0]
        # h[layer] and h[L] are n = L - layer apart, the last entry of the row.
        assert made.cosine_to_final[layer] == made.cosine_grid[layer][depth - layer - 1]
        assert made.angular_to_final[layer] == made.angular_grid[layer][depth - layer - 1]
    assert made.cosine_to_final[depth:] == (1.0,)
    assert made.angular_to_final[depth:] == (0.0,)
    assert len(made.cosine) == len(made.block_influence) == depth
