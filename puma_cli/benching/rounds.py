"""Timing open models on the same inputs, one and many at a time, in rounds that alternate."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from puma_cli.encoding.out_of_memory import out_of_memory_explained
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.profiling.cost.latency import draw_evenly, time_pass
from puma_cli.profiling.cost.turns import take_turns
from puma_cli.progress import SILENT, Reporter

LABEL = "rounds"
ALONE, ALONE_MODEL = "alone", "alone_model"
BATCHED, BATCHED_MODEL = "batched", "batched_model"
KINDS = (ALONE, ALONE_MODEL, BATCHED, BATCHED_MODEL)
Clock = Callable[[], float]


@dataclass(frozen=True)
class Load:
    """What every model of a bench has to do.

    Args:
        inputs: queries and candidates, by side, one at least of either.
        alone: how many of either are embedded one at a time (>= 1).
        batch_size: most inputs at once (>= 1).
        batch_tokens: most tokens at once, or None for what suits the device.
    """

    inputs: Mapping[str, Sequence[Input]]
    alone: int
    batch_size: int
    batch_tokens: int | None = None

    def singles(self, side: str) -> list[Input]:
        """Return the inputs of a side that are embedded one at a time, drawn evenly."""
        entries = self.inputs[side]
        return draw_evenly(entries, min(self.alone, len(entries)))


@dataclass
class Laps:
    """Seconds for one input in each round that counted, by side and kind of work.

    Args:
        working: most bytes that tensors took besides the weights, or None where nothing says.
    """

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    working: int | None = None


def run_rounds(
    embedders: Mapping[str, Embedder],
    load: Load,
    rounds: int,
    warmup: int,
    reporter: Reporter = SILENT,
    clock: Clock = time.perf_counter,
) -> dict[str, Laps]:
    """Return what each model took in every round; all are open, and take turns.

    Nothing is remembered from one time to the next: texts and pictures are read anew.

    Args:
        rounds: rounds that count (>= 1).
        warmup: rounds before these (>= 0).

    Raises:
        DataError: an image is missing or cannot be decoded.
        DeviceError: the device ran out of memory.
    """
    laps = {name: Laps() for name in embedders}
    with out_of_memory_explained(load.batch_size, "fewer models at once, or --dtype bfloat16"):
        for name, counts in take_turns(list(embedders), rounds, warmup, reporter, LABEL):
            embedder = embedders[name]
            lap = Laps()
            with torch.inference_mode(), evaluation_mode(embedder.model):
                for side in load.inputs:
                    _time_side(embedder, load, side, lap, clock)
            laps[name].working = _most(laps[name].working, lap.working)
            for key, values in lap.seconds.items() if counts else ():
                laps[name].seconds[key] += values
    return laps


def _time_side(embedder: Embedder, load: Load, side: str, lap: Laps, clock: Clock) -> None:
    singles, entries = load.singles(side), load.inputs[side]
    embedder.forget()
    reading = inside = 0.0
    for entry in singles:
        began = clock()
        batch = embedder.collate([entry]).to(embedder.device)
        reading += clock() - began
        timed = time_pass(embedder, batch, embedder.depth, clock)
        inside += timed.seconds
    lap.seconds[side, ALONE].append((reading + inside) / len(singles))
    lap.seconds[side, ALONE_MODEL].append(inside / len(singles))
    embedder.forget()
    began = clock()
    embedder.encode(entries, load.batch_size, tokens=load.batch_tokens)
    lap.seconds[side, BATCHED].append((clock() - began) / len(entries))
    inside = 0.0
    # What was just read is remembered: the batches cost nothing to make again.
    for places in embedder.plan(entries, load.batch_size, load.batch_tokens):
        batch = embedder.collate([entries[place] for place in places]).to(embedder.device)
        timed = time_pass(embedder, batch, embedder.depth, clock)
        inside += timed.seconds
        lap.working = _most(lap.working, timed.working_memory)
    lap.seconds[side, BATCHED_MODEL].append(inside / len(entries))


def _most(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return max(known, default=None)
