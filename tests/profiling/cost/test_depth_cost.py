"""What each depth costs: parts add up to models that are really cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from puma_cli.models.embedder import Embedder
from puma_cli.models.head import Head
from puma_cli.models.opening import load
from puma_cli.profiling.cost.depth_cost import (
    DepthCost,
    Parameters,
    costs_by_depth,
    count_parameters,
    index_bytes,
)
from puma_cli.profiling.cost.flops import ForwardFlops
from puma_cli.profiling.cost.latency import DepthSpeed, Speed


@pytest.fixture
def headed(tiny_checkpoint: Path) -> Embedder:
    """The tiny checkpoint in half precision, with a head from 32 to 5 numbers in float32."""
    embedder = load(tiny_checkpoint, "cpu", "bfloat16")
    embedder.head = Head(torch.ones(embedder.width, 5), torch.zeros(5))
    return embedder


def _speed(depth: int, memory: int | None) -> Speed:
    depths = tuple(
        DepthSpeed(
            k, 10.0 + k, 200.0 - k, 100.0 - k, memory and memory + k, measured=k in (1, depth)
        )
        for k in range(1, depth + 1)
    )
    return Speed(batch_size=8, repeats=3, device="cpu", dtype="bfloat16", depths=depths)


def test_every_cut_has_as_many_parameters_as_counted(embedder: Embedder) -> None:
    counted = count_parameters(embedder)
    for k in range(embedder.depth + 1):
        with embedder.layers(range(k)):
            assert counted.at(k) == sum(p.numel() for p in embedder.model.parameters())
    assert counted.at(0) < counted.at(1) < counted.at(embedder.depth)


def test_parts(embedder: Embedder) -> None:
    counted = count_parameters(embedder)
    assert counted.embedding == embedder.decoder.embed_tokens.weight.numel() > 0
    assert counted.vision == sum(p.numel() for p in embedder.model.visual.parameters()) > 0
    assert len(counted.layers) == embedder.depth
    assert counted.rest == embedder.decoder.norm.weight.numel()
    assert counted.head == 0


def test_layers_of_different_sizes() -> None:
    counted = Parameters(embedding=1, vision=20, layers=(300, 500, 700), rest=4000, head=50_000)
    assert [counted.at(k) for k in range(4)] == [4021, 4321, 4821, 55_521]


def test_the_head_belongs_to_full_depth_alone(headed: Embedder) -> None:
    counted = count_parameters(headed)
    assert counted.head == 32 * 5 + 5
    whole = sum(p.numel() for p in headed.model.parameters())
    assert counted.at(headed.depth) == whole + counted.head
    assert counted.at(headed.depth - 1) == whole - counted.layers[-1]


def test_costs_of_every_depth(headed: Embedder) -> None:
    query, candidate = ForwardFlops(0.0, 7.0), ForwardFlops(100.0, 11.0)
    costs = costs_by_depth(headed, query, candidate, _speed(headed.depth, memory=1000))
    counted = count_parameters(headed)
    assert [cost.k for cost in costs] == [1, 2, 3, 4]
    last = 2 * (counted.at(4) - counted.head) + 4 * counted.head
    assert [cost.weight_bytes for cost in costs] == [*(2 * counted.at(k) for k in (1, 2, 3)), last]
    assert costs[1] == DepthCost(
        k=2,
        parameters=counted.at(2),
        weight_bytes=2 * counted.at(2),
        flops_query=14.0,
        flops_candidate=122.0,
        latency_query=12.0,
        queries_per_second=198.0,
        candidates_per_second=98.0,
        peak_memory=2 * counted.at(2) + 1002,
        measured=False,
    )
    assert [cost.measured for cost in costs] == [True, False, False, True]


def test_no_memory_where_the_device_does_not_say(embedder: Embedder) -> None:
    flops = ForwardFlops(1.0, 1.0)
    costs = costs_by_depth(embedder, flops, flops, _speed(embedder.depth, memory=None))
    assert {cost.peak_memory for cost in costs} == {None}
    assert replace(costs[0], peak_memory=1) != costs[0]


def test_index() -> None:
    assert index_bytes(1_000_000, 3584) == 7_168_000_000
    assert index_bytes(10, 3, number_bytes=4) == 120
