"""How fast a model embeds at every depth, and what memory it works in, measured on its device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from puma_cli.encoding.out_of_memory import out_of_memory_explained
from puma_cli.errors import ConfigError
from puma_cli.models.devices import name_device
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.processing import Batch
from puma_cli.profiling.cost.turns import take_turns
from puma_cli.progress import SILENT, Reporter

REPEATS = 5
WARM_UP = 2
LABEL = "time the depths"
ALONE, QUERIES, CANDIDATES = "one query", "queries", "candidates"


@dataclass(frozen=True)
class DepthSpeed:
    """How fast the model cut after k decoder layers is.

    Args:
        k: decoder layers (1 to L).
        latency: milliseconds for one query alone.
        queries_per_second: queries embedded in a second, in batches.
        candidates_per_second: candidates embedded in a second, in batches.
        working_memory: most bytes allocated on the device beside the weights, for the larger of the
            two batches, or None where the device does not say.
        measured: False where the numbers are read off the line through the measured depths.
    """

    k: int
    latency: float
    queries_per_second: float
    candidates_per_second: float
    working_memory: int | None
    measured: bool


@dataclass(frozen=True)
class Speed:
    """How fast a model is at every depth, and how that was measured.

    Args:
        batch_size: inputs of a batch.
        repeats: timed passes of each kind at each measured depth, whose median counts.
        device: name of the device.
        dtype: number format of the weights.
        depths: one entry for each depth 1 to L, (L,).
    """

    batch_size: int
    repeats: int
    device: str
    dtype: str
    depths: tuple[DepthSpeed, ...]

    def at(self, k: int) -> DepthSpeed:
        """Return the entry of depth k (1 to L)."""
        return self.depths[k - 1]


@dataclass(frozen=True)
class Pass:
    """One pass of one batch through a model cut to some depth.

    Args:
        seconds: how long it took.
        working_memory: the bytes of the batch and the most that was allocated beside what was there
            before, or None where the device does not say.
    """

    seconds: float
    working_memory: int | None


def measure_speed(
    embedder: Embedder,
    queries: Sequence[Input],
    candidates: Sequence[Input],
    *,
    batch_size: int,
    depths: Sequence[int] | None = None,
    repeats: int = REPEATS,
    warmup: int = WARM_UP,
    reporter: Reporter = SILENT,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time the model cut at some depths, and give the others a line through these.

    Timed is the model, from a batch on its device to embeddings there: no reading of images, no
    tokenizer, no cache of keys and values. A batch holds inputs drawn evenly from the given ones,
    padded to the longest; the query timed alone is one of median length among those drawn.

    Args:
        queries: where queries are drawn from (>= 1), some again if they are fewer than a batch.
        candidates: where candidates are drawn from (>= 1), likewise.
        batch_size: inputs of a batch (>= 1).
        depths: depths to measure (1 to L), two at least where L > 1; None takes 1, L and three
            between.
        repeats: timed passes of each kind at each depth (>= 1).
        warmup: passes before these that are not timed (>= 0).
        clock: seconds since some moment.

    Raises:
        ConfigError: `depths` has a depth that the model lacks, or a single one.
        DataError: an image is missing or cannot be decoded.
        DeviceError: the device ran out of memory.
    """
    chosen = _check_depths(depths, embedder.depth)
    drawn = draw_evenly(queries, batch_size)
    inputs = {
        ALONE: [median_length(embedder, drawn)],
        QUERIES: drawn,
        CANDIDATES: draw_evenly(candidates, batch_size),
    }
    passes: dict[tuple[str, int], list[Pass]] = {(kind, k): [] for kind in inputs for k in chosen}
    with (
        out_of_memory_explained(batch_size),
        torch.inference_mode(),
        evaluation_mode(embedder.model),
    ):
        batches = {
            kind: embedder.collate(entries).to(embedder.device) for kind, entries in inputs.items()
        }
        for k, counts in take_turns(chosen, repeats, warmup, reporter, LABEL):
            for kind, batch in batches.items():
                timed = time_pass(embedder, batch, k, clock)
                if counts:
                    passes[kind, k].append(timed)
    return Speed(
        batch_size=batch_size,
        repeats=repeats,
        device=name_device(embedder.device),
        dtype=str(embedder.decoder.norm.weight.dtype).removeprefix("torch."),
        depths=_every_depth(passes, chosen, embedder.depth, batch_size),
    )


def time_pass(
    embedder: Embedder, batch: Batch, k: int, clock: Callable[[], float] = time.perf_counter
) -> Pass:
    """Run a batch through the model cut after k decoder layers (1 to L) and see what it takes."""
    device = embedder.device
    # A head reads the states of the last layer; a cut has none.
    embed = embedder.embed if k == embedder.depth else embedder.last_states
    with embedder.layers(range(k)):
        _synchronize(device)
        before = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        began = clock()
        embed(batch)
        _synchronize(device)
        seconds = clock() - began
    if device.type != "cuda":
        return Pass(seconds, None)
    held = sum(value.nbytes for value in vars(batch).values() if torch.is_tensor(value))
    return Pass(seconds, held + torch.cuda.max_memory_allocated(device) - before)


def choose_depths(depth: int) -> tuple[int, ...]:
    """Return 1, the quarters of L and L, rounded and distinct: few, yet enough for a line."""
    return tuple(sorted({1, *(max(1, round(part * depth / 4)) for part in range(1, 5))}))


def draw_evenly(inputs: Sequence[Input], count: int) -> list[Input]:
    """Return `count` of the inputs from all along the list, some again if they are fewer."""
    return [inputs[place * len(inputs) // count] for place in range(count)]


def median_length(embedder: Embedder, inputs: Sequence[Input]) -> Input:
    """Return the first of the inputs whose number of tokens is their (lower) median."""
    lengths = (embedder.collate(inputs).last + 1).tolist()
    return inputs[lengths.index(statistics.median_low(lengths))]


def fit_line(points: Mapping[int, float]) -> tuple[float, float]:
    """Return the fixed part and the part of each layer that fit best: value = fixed + k * layer.

    Least squares, with neither part below 0, since no part of a model takes negative time; so the
    line never falls, and is positive where the values are.

    Args:
        points: positive values by depth (>= 1), one at least; a single one is taken for all fixed.
    """
    mean_k = statistics.fmean(points)
    mean = statistics.fmean(points.values())
    spread = sum((k - mean_k) ** 2 for k in points)
    slope = sum((k - mean_k) * (value - mean) for k, value in points.items())
    layer = max(0.0, slope / spread) if spread else 0.0
    fixed = mean - layer * mean_k
    if fixed < 0:
        # The best line through the origin, which is where the constraint leaves it.
        square = sum(k * k for k in points)
        return 0.0, sum(k * value for k, value in points.items()) / square
    return fixed, layer


def fill_depths(points: Mapping[int, float], depth: int) -> tuple[float, ...]:
    """Return a value for each depth 1 to L: what was measured, and the fitted line elsewhere.

    The line is kept between the measured values on either side, so that the whole never falls
    unless the measured values do.

    Args:
        points: positive measured values by depth (1 to L), one at least.
        depth: number of layers L.
    """
    fixed, layer = fit_line(points)
    values = []
    for k in range(1, depth + 1):
        below = [points[j] for j in sorted(points) if j <= k]
        above = [points[j] for j in sorted(points) if j >= k]
        value = fixed + k * layer
        if below and above:
            ends = below[-1], above[0]
            value = min(max(value, min(ends)), max(ends))
        else:
            value = max(value, below[-1]) if below else min(value, above[0])
        values.append(value)
    return tuple(values)


def _every_depth(
    passes: Mapping[tuple[str, int], list[Pass]],
    chosen: Sequence[int],
    depth: int,
    batch_size: int,
) -> tuple[DepthSpeed, ...]:
    seconds = {}
    for kind in (ALONE, QUERIES, CANDIDATES):
        medians = {k: statistics.median(timed.seconds for timed in passes[kind, k]) for k in chosen}
        seconds[kind] = fill_depths(medians, depth)
    memory: Sequence[int | None] = [None] * depth
    peaks = {
        k: [
            float(timed.working_memory)
            for kind in (QUERIES, CANDIDATES)
            for timed in passes[kind, k]
            if timed.working_memory is not None
        ]
        for k in chosen
    }
    if all(peaks.values()):
        highest = {k: max(values) for k, values in peaks.items()}
        memory = [round(value) for value in fill_depths(highest, depth)]
    return tuple(
        DepthSpeed(
            k=k,
            latency=1000 * seconds[ALONE][k - 1],
            queries_per_second=batch_size / seconds[QUERIES][k - 1],
            candidates_per_second=batch_size / seconds[CANDIDATES][k - 1],
            working_memory=memory[k - 1],
            measured=k in chosen,
        )
        for k in range(1, depth + 1)
    )


def _check_depths(depths: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    chosen = choose_depths(depth) if depths is None else tuple(sorted(set(depths)))
    if not chosen or chosen[0] < 1 or chosen[-1] > depth or len(chosen) < min(2, depth):
        raise ConfigError(
            f"The depths {', '.join(map(str, chosen)) or '(none)'} cannot be timed.",
            cause=f"The model has {depth} decoder layers, and a line takes two depths.",
            hint=f"Name two depths or more between 1 and {depth}.",
        )
    return chosen


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
