"""Speed at every depth, against a clock that the model's own layers move."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.errors import ConfigError, DeviceError
from puma_cli.models.devices import name_device
from puma_cli.models.embedder import Embedder
from puma_cli.models.head import Head
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.models.processing import Batch
from puma_cli.profiling.cost import latency
from puma_cli.profiling.cost.latency import (
    Speed,
    choose_depths,
    draw_evenly,
    fill_depths,
    fit_line,
    measure_speed,
    median_length,
    time_pass,
)

BATCH = 4
FIXED, LAYER = 8.0, 0.5  # seconds a row of the batch: powers of two add without rounding
QUERIES = [Input(text="red " * n, instruction="find") for n in (1, 9, 2, 3, 5)]
CANDIDATES = [Input(text="blue"), Input(text="a green square")]


class Laboratory:
    """An embedder whose passes move a clock by known times, and a record of the passes."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.now = 0.0
        self.passes: list[tuple[int, int, int]] = []  # layers, rows, tokens
        self.slow: Callable[[int], float] = lambda number: 1.0
        self.modes: set[tuple[bool, bool]] = set()

    def clock(self) -> float:
        return self.now

    def begin(self, _: Any, args: tuple[torch.Tensor, ...]) -> None:
        rows, tokens = args[0].shape
        self.modes.add((torch.is_inference_mode_enabled(), self.embedder.model.training))
        self.passes.append((self.embedder.depth, rows, tokens))
        self.now += FIXED * rows * self.slow(len(self.passes) - 1)

    def go_on(self, _: Any, args: Any, output: Any) -> None:
        self.now += LAYER * self.passes[-1][1] * self.slow(len(self.passes) - 1)

    def measure(self, **options: Any) -> Speed:
        return measure_speed(
            self.embedder, QUERIES, CANDIDATES, batch_size=BATCH, clock=self.clock, **options
        )


@pytest.fixture
def laboratory(tiny_checkpoint: Path) -> Laboratory:
    embedder = load(tiny_checkpoint, "cpu")
    made = Laboratory(embedder)
    embedder.decoder.embed_tokens.register_forward_pre_hook(made.begin)
    for layer in embedder.decoder.layers:
        layer.register_forward_hook(made.go_on)
    return made


def test_every_depth_takes_its_fixed_part_and_its_layers(laboratory: Laboratory) -> None:
    speed = laboratory.measure(depths=[4, 1], repeats=3, warmup=1)
    assert [depth.k for depth in speed.depths] == [1, 2, 3, 4]
    assert [depth.measured for depth in speed.depths] == [True, False, False, True]
    for k in range(1, 5):
        seconds = FIXED + k * LAYER
        assert speed.at(k).latency == pytest.approx(1000 * seconds)
        assert speed.at(k).queries_per_second == pytest.approx(1 / seconds)
        assert speed.at(k).candidates_per_second == pytest.approx(1 / seconds)
        assert speed.at(k).working_memory is None
    assert (speed.batch_size, speed.repeats) == (BATCH, 3)
    assert (speed.device, speed.dtype) == (name_device(torch.device("cpu")), "float32")
    assert speed.device.startswith("cpu")


def test_depths_take_turns_up_and_down(laboratory: Laboratory) -> None:
    laboratory.measure(depths=[1, 3, 4], repeats=2, warmup=1)
    kinds = [1, BATCH, BATCH]
    expected = [
        (k, rows) for turn in ((1, 3, 4), (4, 3, 1), (1, 3, 4)) for k in turn for rows in kinds
    ]
    assert [(k, rows) for k, rows, _ in laboratory.passes] == expected
    alone, queries, candidates = (tokens for _, _, tokens in laboratory.passes[:3])
    collate = laboratory.embedder.collate
    drawn = draw_evenly(QUERIES, BATCH)
    assert alone == collate([median_length(laboratory.embedder, drawn)]).input_ids.shape[1]
    assert queries == collate(drawn).input_ids.shape[1]
    assert candidates == collate(CANDIDATES).input_ids.shape[1]
    assert len({alone, queries, candidates}) == 3


def test_a_linear_drift_falls_on_all_depths_alike(laboratory: Laboratory) -> None:
    # Up and down over an even number of turns, every depth stands in the middle on average.
    laboratory.slow = lambda number: 1.0 + number / 100
    speed = laboratory.measure(depths=[1, 4], repeats=2, warmup=0)
    assert speed.at(4).latency / speed.at(1).latency == pytest.approx(
        (FIXED + 4 * LAYER) / (FIXED + LAYER)
    )


@pytest.mark.parametrize(
    ("warmup", "repeats", "slow_turns"),
    [(0, 3, {1}), (2, 1, {0, 1})],
    ids=["the median forgets a disturbance", "the warm-up is not timed"],
)
def test_slow_turns_do_not_count(
    laboratory: Laboratory, warmup: int, repeats: int, slow_turns: set[int]
) -> None:
    turn = 2 * 3
    laboratory.slow = lambda number: 1000.0 if number // turn in slow_turns else 1.0
    speed = laboratory.measure(depths=[1, 4], repeats=repeats, warmup=warmup)
    assert len(laboratory.passes) == 3 * turn
    assert speed.at(1).latency == pytest.approx(1000 * (FIXED + LAYER))
    assert speed.at(4).candidates_per_second == pytest.approx(1 / (FIXED + 4 * LAYER))


def test_the_tokenizer_is_not_timed(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    collate = laboratory.embedder.collate
    calls: list[int] = []

    def slow(inputs: Sequence[Input]) -> Batch:
        calls.append(len(inputs))
        laboratory.now += 1e6
        return collate(inputs)

    monkeypatch.setattr(laboratory.embedder, "collate", slow)
    speed = laboratory.measure(repeats=1, warmup=0)
    assert calls
    assert speed.at(4).latency == pytest.approx(1000 * (FIXED + 4 * LAYER))


def test_passes_run_in_evaluation_without_gradients(laboratory: Laboratory) -> None:
    model, layers = laboratory.embedder.model, laboratory.embedder.decoder.layers
    model.train()
    laboratory.measure(repeats=1, warmup=0)
    assert laboratory.modes == {(True, False)}
    assert model.training
    assert laboratory.embedder.decoder.layers is layers


def test_the_head_works_at_full_depth_alone(laboratory: Laboratory) -> None:
    embedder = laboratory.embedder
    embedder.head = Head(torch.ones(embedder.width, 5), torch.zeros(5))
    at: list[int] = []
    embedder.head.register_forward_hook(lambda *_: at.append(embedder.depth))
    laboratory.measure(repeats=1, warmup=0)
    assert at == [4, 4, 4]
    assert {k for k, _, _ in laboratory.passes} == {1, 2, 3, 4}


@pytest.mark.parametrize("depths", [[], [0, 4], [1, 5], [4], [2, 2]])
def test_depths_that_cannot_be_timed(laboratory: Laboratory, depths: list[int]) -> None:
    with pytest.raises(ConfigError, match="cannot be timed"):
        laboratory.measure(depths=depths)
    assert laboratory.passes == []


def test_no_memory_left(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 2 GiB.")

    monkeypatch.setattr(laboratory.embedder, "post_norm_states", fail)
    with pytest.raises(DeviceError, match="batches of 4"):
        laboratory.measure()


def test_an_accelerator_is_waited_for(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = laboratory.embedder
    log: list[str] = []
    batch = embedder.collate(CANDIDATES)

    def say(word: str, answer: Any = None) -> Callable[..., Any]:
        def called(*_: Any) -> Any:
            log.append(word)
            return answer

        return called

    monkeypatch.setattr(Embedder, "device", torch.device("cuda"))
    for name, answer in {
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 1000,
        "max_memory_allocated": 1700,
    }.items():
        monkeypatch.setattr(torch.cuda, name, say(name, answer))
    embedder.decoder.norm.register_forward_hook(say("pass"))
    monkeypatch.setattr(laboratory, "clock", say("clock", 3.0))
    timed = time_pass(embedder, batch, 2, laboratory.clock)
    assert log == [
        "synchronize",
        "reset_peak_memory_stats",
        "memory_allocated",
        "clock",
        "pass",
        "synchronize",
        "clock",
        "max_memory_allocated",
    ]
    # ids, mask and three positions of 8 bytes, types of 4, and the place of each row's last token.
    rows, tokens = batch.input_ids.shape
    assert timed.working_memory == 700 + rows * tokens * (8 * 5 + 4) + 8 * rows
    assert timed.seconds == 0


def test_memory_is_that_of_the_larger_batch_and_follows_a_line(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: Embedder, batch: Batch, k: int, clock: Any) -> latency.Pass:
        rows, tokens = batch.input_ids.shape
        # One query alone shall not count, nor the candidates, whose batch takes less.
        return latency.Pass(1.0, 10**6 if rows == 1 else 100 + 20 * k - (tokens < many))

    collate = laboratory.embedder.collate
    few, many = (
        collate(draw_evenly(side, BATCH)).input_ids.shape[1] for side in (CANDIDATES, QUERIES)
    )
    assert few < many
    monkeypatch.setattr(latency, "time_pass", run)
    speed = laboratory.measure(depths=[1, 4], repeats=2)
    assert [depth.working_memory for depth in speed.depths] == [120, 140, 160, 180]


@pytest.mark.gpu
def test_memory_and_times_on_a_gpu(tiny_checkpoint: Path) -> None:
    embedder = load(tiny_checkpoint, "cuda")
    small = measure_speed(embedder, QUERIES, CANDIDATES, batch_size=2)
    large = measure_speed(embedder, QUERIES, CANDIDATES, batch_size=64)
    for one, many in zip(small.depths, large.depths, strict=True):
        assert one.working_memory is not None and many.working_memory is not None
        assert 0 < one.working_memory < many.working_memory
        assert one.latency > 0
    assert small.device == torch.cuda.get_device_name()
    assert small.dtype == "bfloat16"


def test_chosen_depths() -> None:
    assert choose_depths(28) == (1, 7, 14, 21, 28)
    assert choose_depths(12) == (1, 3, 6, 9, 12)
    assert [choose_depths(depth) for depth in (1, 2, 3)] == [(1,), (1, 2), (1, 2, 3)]


def test_inputs_are_drawn_from_all_along_the_list() -> None:
    inputs = [Input(text=str(n)) for n in range(10)]
    assert [entry.text for entry in draw_evenly(inputs, 5)] == ["0", "2", "4", "6", "8"]
    assert draw_evenly(inputs, 10) == inputs
    again = draw_evenly(inputs[:3], 7)
    assert sorted(again.count(entry) for entry in inputs[:3]) == [2, 2, 3]


def test_the_query_of_median_length(embedder: Embedder) -> None:
    inputs = [Input(text="red " * n) for n in (30, 1, 7, 2, 12)]
    assert median_length(embedder, inputs) == inputs[2]
    assert median_length(embedder, inputs[:4]) == inputs[3]


@settings(max_examples=50, deadline=None)
@given(
    fixed=st.integers(1, 1000),
    layer=st.integers(0, 1000),
    places=st.sets(st.integers(1, 40), min_size=2, max_size=5),
)
def test_a_line_is_found_again(fixed: int, layer: int, places: set[int]) -> None:
    points = {k: float(fixed + k * layer) for k in places}
    assert fit_line(points) == pytest.approx((fixed, layer), abs=1e-7)
    assert fill_depths(points, 40) == pytest.approx([fixed + k * layer for k in range(1, 41)])


@pytest.mark.parametrize("points", [{1: 5.0, 4: 4.0, 8: 4.5}, {1: 0.1, 4: 9.0, 8: 30.0}])
def test_no_part_takes_negative_time(points: dict[int, float]) -> None:
    def loss(fixed: float, layer: float) -> float:
        return sum((fixed + k * layer - value) ** 2 for k, value in points.items())

    slope, intercept = np.polyfit(list(points), list(points.values()), 1)
    assert min(slope, intercept) < 0
    fixed, layer = fit_line(points)
    assert min(fixed, layer) == 0 < max(fixed, layer)
    # No line near by that keeps both parts from being negative fits better.
    for step in (-1e-3, 1e-3):
        assert loss(max(0.0, fixed + step), layer) >= loss(fixed, layer)
        assert loss(fixed, max(0.0, layer + step)) >= loss(fixed, layer)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6),
    places=st.sets(st.integers(1, 30), min_size=6, max_size=6),
)
def test_what_rises_where_measured_rises_everywhere(values: list[float], places: set[int]) -> None:
    points = dict(zip(sorted(places), sorted(values), strict=False))
    filled = fill_depths(points, 30)
    assert all(after >= before > 0 for before, after in pairwise(filled))
    assert {k: filled[k - 1] for k in points} == points


def test_measured_values_that_fall_are_kept_as_they_are() -> None:
    points = {1: 4.0, 4: 9.0, 7: 8.0, 10: 12.0}
    filled = fill_depths(points, 12)
    assert {k: filled[k - 1] for k in points} == points
    assert all(8.0 <= value <= 9.0 for value in filled[3:7])
    assert list(filled[6:]) == sorted(filled[6:])


def test_noise_about_a_line_leaves_the_line() -> None:
    noise = random.Random(0)
    points = {k: (5 + 2 * k) * noise.uniform(0.97, 1.03) for k in choose_depths(28)}
    slope, intercept = np.polyfit(list(points), list(points.values()), 1)
    assert fit_line(points) == pytest.approx((intercept, slope))
    filled = fill_depths(points, 28)
    assert filled == pytest.approx([5 + 2 * k for k in range(1, 29)], rel=0.06)
    assert all(after >= before for before, after in pairwise(filled))


def test_one_depth_is_all_there_is() -> None:
    assert fill_depths({1: 2.5}, 1) == (2.5,)
