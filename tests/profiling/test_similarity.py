"""Similarity between layers against closed forms and a naive float64 reference."""

from __future__ import annotations

import math

import pytest
import torch

from puma_cli.errors import NumericError
from puma_cli.profiling.similarity import (
    LayerSimilarity,
    SimilarityAccumulator,
    angular_distance,
    unit,
)


def measure(states: torch.Tensor, batch: int = 7) -> LayerSimilarity:
    accumulator = SimilarityAccumulator("query", "text", states.shape[0] - 1)
    for part in states.split(batch, dim=1):
        accumulator.add(part)
    return accumulator.result()


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 30.0, 60.0, 90.0, 135.0, 180.0])
def test_angle_closed_form(degrees: float) -> None:
    angle = math.radians(degrees)
    left = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    right = 5 * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    found = angular_distance(unit(left), unit(right))
    assert found.item() == pytest.approx(degrees / 180.0, abs=1e-12, rel=1e-9)


def test_rotation_by_a_known_angle_in_every_layer() -> None:
    angles = [20.0, 40.0, 0.0]
    states, turned = [], 0.0
    for turn in [0.0, *angles]:
        turned += math.radians(turn)
        states.append(torch.tensor([[math.cos(turned), math.sin(turned), 0.0]] * 4) * (1 + turned))
    found = measure(torch.stack(states), batch=3)
    assert found.count == 4
    assert found.angular == pytest.approx([a / 180 for a in angles], abs=1e-7)
    cosines = [math.cos(math.radians(a)) for a in angles]
    assert found.cosine == pytest.approx(cosines, abs=1e-7)
    assert found.block_influence == pytest.approx([1 - c for c in cosines], abs=1e-7)
    assert found.angular_to_final == pytest.approx([60 / 180, 40 / 180, 0, 0], abs=1e-7)
    assert found.centred == (None, None, None)


def test_streaming_equals_the_naive_reference() -> None:
    torch.manual_seed(0)
    states = torch.randn(5, 23, 16, dtype=torch.float64).cumsum(0) + 3.0
    found = measure(states)
    pairs = torch.nn.functional.cosine_similarity(states[:-1], states[1:], dim=-1)
    assert found.cosine == pytest.approx(pairs.mean(-1).tolist(), abs=1e-12)
    assert found.angular == pytest.approx((pairs.acos() / math.pi).mean(-1).tolist(), abs=1e-9)
    centred = states - states.mean(1, keepdim=True)
    naive = (centred[:-1] * centred[1:]).sum((1, 2)) / (
        centred[:-1].square().sum((1, 2)) * centred[1:].square().sum((1, 2))
    ).sqrt()
    assert found.centred == pytest.approx(naive.tolist(), abs=1e-12)
    last = torch.nn.functional.cosine_similarity(states, states[-1:], dim=-1)
    assert found.cosine_to_final == pytest.approx(last.mean(-1).tolist(), abs=1e-12)


def test_batch_size_does_not_matter() -> None:
    torch.manual_seed(1)
    states = torch.randn(3, 20, 8)
    one, many = measure(states, batch=1), measure(states, batch=20)
    assert one.cosine == pytest.approx(many.cosine, abs=1e-12)
    assert one.centred == pytest.approx(many.centred, abs=1e-10)


def test_identical_bfloat16_states_have_angle_zero() -> None:
    states = torch.randn(1, 50, 64).bfloat16().expand(3, 50, 64)
    assert measure(states).angular == (0.0, 0.0)


def test_half_precision_does_not_overflow() -> None:
    states = torch.full((2, 2, 64), 3e4, dtype=torch.float16)
    assert measure(states).cosine == pytest.approx([1.0], abs=1e-9)


def test_one_massive_activation_hides_in_cosine_but_not_in_centred() -> None:
    torch.manual_seed(2)
    states = torch.randn(2, 64, 256)
    states[:, :, 0] = 200.0
    found = measure(states)
    assert found.cosine[0] > 0.98
    centred = found.centred[0]
    assert centred is not None
    assert abs(centred) < 0.1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_layer_is_named(value: float) -> None:
    states = torch.randn(4, 3, 8)
    states[2, 1, 0] = value
    with pytest.raises(NumericError, match="decoder layer 1 is not finite"):
        measure(states)


def test_zero_state_is_named() -> None:
    states = torch.randn(3, 3, 8)
    states[0, 2] = 0
    with pytest.raises(NumericError, match="embedding output is zero"):
        measure(states)


def test_nothing_added() -> None:
    with pytest.raises(NumericError, match="No query of modality 'image'"):
        SimilarityAccumulator("query", "image", 2).result()
