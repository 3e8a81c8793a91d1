"""Rounds against a clock that only the models' own layers move."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puma_cli.benching.rounds import ALONE, ALONE_MODEL, BATCHED, BATCHED_MODEL, Load, run_rounds
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load

LAYER = 0.25  # seconds a row of a batch: powers of two add without rounding
INPUTS = {
    "query": [Input(text="red " * n, instruction="find") for n in (1, 9, 2, 3)],
    "candidate": [Input(text="blue"), Input(text="a green square")],
}


class Laboratory:
    """Two embedders whose layers move one clock, the second's twice as slowly."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self.reads = 0
        self.embedders = {"slow": load(folder, "cpu"), "fast": load(folder, "cpu")}
        for name, factor in (("slow", 2), ("fast", 1)):
            embedder = self.embedders[name]
            embedder.decoder.embed_tokens.register_forward_pre_hook(self._note(name))
            for layer in embedder.decoder.layers:
                layer.register_forward_hook(self._advance(embedder, factor))

    def clock(self) -> float:
        return self.now

    def _note(self, name: str) -> Callable[..., None]:
        return lambda *_: self.order.append(name)

    def _advance(self, embedder: Embedder, factor: int) -> Callable[..., None]:
        def advance(_: Any, args: tuple[Any, ...], output: Any) -> None:
            self.now += LAYER * factor * args[0].shape[0]

        return advance


@pytest.fixture
def laboratory(tiny_checkpoint: Path) -> Laboratory:
    return Laboratory(tiny_checkpoint)


def test_every_kind_of_work_takes_what_its_layers_take(laboratory: Laboratory) -> None:
    work = Load(INPUTS, alone=2, batch_size=128)
    laps = run_rounds(laboratory.embedders, work, rounds=2, warmup=1, clock=laboratory.clock)
    for name, factor in (("slow", 2), ("fast", 1)):
        each = LAYER * factor * laboratory.embedders[name].depth
        assert set(laps[name].seconds) == {
            (side, kind) for side in INPUTS for kind in (ALONE, ALONE_MODEL, BATCHED, BATCHED_MODEL)
        }
        # The clock stands still while inputs are read, so the model's part is the whole.
        for seconds in laps[name].seconds.values():
            assert seconds == [each, each]
        assert laps[name].working is None


def test_models_take_turns_up_and_down(laboratory: Laboratory) -> None:
    run_rounds(
        laboratory.embedders,
        Load(INPUTS, alone=1, batch_size=128),
        rounds=2,
        warmup=1,
        clock=laboratory.clock,
    )
    changes = [
        name
        for place, name in enumerate(laboratory.order)
        if place == 0 or laboratory.order[place - 1] != name
    ]
    # Slow, fast; fast, slow; slow, fast.
    assert changes == ["slow", "fast", "slow", "fast"]


def test_what_was_read_is_read_again_in_every_round(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(Embedder, "forget", lambda self: forgotten.append("x"))
    run_rounds(laboratory.embedders, Load(INPUTS, 1, 128), rounds=2, warmup=0)
    assert len(forgotten) == 2 * 2 * 2 * 2  # rounds, models, sides, kinds


def test_no_more_single_inputs_than_there_are() -> None:
    work = Load(INPUTS, alone=3, batch_size=8)
    assert len(work.singles("query")) == 3
    assert work.singles("candidate") == INPUTS["candidate"]
