"""Speed, time left and memory of a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puma_cli.distillation import meter
from puma_cli.distillation.meter import Meter, peak_memory

CPU = torch.device("cpu")


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def test_rates_are_of_the_steps_since_the_last_reading(clock: Clock) -> None:
    made = Meter(CPU, first=0, total=100)
    for _ in range(10):
        clock.now += 2.0
        made.count(8, 400)
    values = made.read(10)
    assert (values["pairs_per_second"], values["tokens_per_second"]) == (4.0, 200.0)
    assert values["seconds_left"] == 180.0
    clock.now += 1.0
    made.count(8, 100)
    assert made.read(11)["tokens_per_second"] == 100.0


def test_validations_slow_nothing_down_but_the_end(clock: Clock) -> None:
    made = Meter(CPU, first=0, total=4)
    for _ in range(2):
        clock.now += 1.0
        made.count(5, 50)
        clock.now += 9.0
        made.go_on()
    values = made.read(2)
    assert values["pairs_per_second"] == 5.0
    assert values["seconds_left"] == 20.0


def test_a_resumed_training_measures_its_own_pace(clock: Clock) -> None:
    made = Meter(CPU, first=90, total=100)
    clock.now += 3.0
    assert made.left(91) == 27.0


def test_the_process_holds_what_it_was_given() -> None:
    before = peak_memory(CPU)
    block = np.ones(64 << 20, dtype=np.uint8)
    after = peak_memory(CPU)
    assert before is not None and after is not None
    # Bytes, whatever the system counts in: a test of torch is larger than 50 MB, and grows.
    assert 50 << 20 < before <= after < 1 << 40
    assert after >= block.nbytes
