"""What `puma bench` measures: each model's speed, size and cost beside the first one's."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MILLION = 1_000_000
QUERY, CANDIDATE = "query", "candidate"
SIDES = (QUERY, CANDIDATE)


@dataclass(frozen=True)
class Spread:
    """The median of some rounds with the quartiles around it."""

    median: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of the distance between the quartiles."""
        return (self.high - self.low) / 2


def spread_of(values: Sequence[float]) -> Spread:
    """Return the median and quartiles of measured values (>= 1)."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


@dataclass(frozen=True)
class Timing:
    """Seconds of one kind of work, and how they compare with the reference's.

    Args:
        seconds: for one input.
        faster: the reference's seconds over these, round by round.
        ideal: the reference's FLOPs over these.
    """

    seconds: Spread
    faster: Spread
    ideal: float

    @property
    def of_ideal(self) -> float:
        """The share of the ratio of FLOPs that the ratio of times reaches."""
        return self.faster.median / self.ideal


@dataclass(frozen=True)
class SideResult:
    """What one model takes for queries, or for candidates.

    Args:
        tokens: mean tokens of an input, those of its image included.
        patches: mean patches of an input's image.
        flops: mean FLOPs of an input, vision included.
        alone: one input at a time, from text and picture to vector.
        alone_model: the part of that in the model.
        batched: many inputs in batches, from texts and pictures to vectors.
        batched_model: the model's passes over the same batches.
    """

    tokens: float
    patches: float
    flops: float
    alone: Timing
    alone_model: Timing
    batched: Timing
    batched_model: Timing

    @property
    def per_second(self) -> Spread:
        """Inputs embedded in a second, in batches."""
        each = self.batched.seconds
        return Spread(1 / each.median, 1 / each.high, 1 / each.low)

    @property
    def tokens_per_second(self) -> float:
        """Tokens embedded in a second, in batches, padding not counted."""
        return self.tokens / self.batched.seconds.median

    @property
    def hours_per_million(self) -> float:
        """Hours for a million inputs."""
        return self.batched.seconds.median * MILLION / 3600


@dataclass(frozen=True)
class Kept:
    """What a model keeps of the reference's score, with 95% intervals where they can be had."""

    score: float
    retention: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class ModelResult:
    """One model of a bench.

    Args:
        name: how tables call it; no other of the bench is called so.
        model: as the user named it.
        disk: bytes of its files.
        memory: most bytes it took at work, weights included, or None where nothing says.
        index: bytes of the vectors of a million candidates, two a number.
        kept: None without scores.
    """

    name: str
    model: str
    layers: int
    parameters: int
    dimension: int
    disk: int
    memory: int | None
    index: int
    query: SideResult
    candidate: SideResult
    kept: Kept | None = None

    def side(self, name: str) -> SideResult:
        """Return the result for `query` or `candidate`."""
        return self.query if name == QUERY else self.candidate


@dataclass(frozen=True)
class Bench:
    """Several models measured in turn; the first is the reference.

    Args:
        inputs: what was embedded, in words.
        rounds: rounds that counted.
        price_per_hour: of the machine.
        metric: of the scores, empty without them.
        notes: what a reader must know.
    """

    models: tuple[ModelResult, ...]
    inputs: str
    queries: int
    candidates: int
    alone: int
    rounds: int
    device: str
    dtype: str
    price_per_hour: float
    metric: str = ""
    notes: tuple[str, ...] = ()
    plot: Path | None = None

    def cost_per_million(self, model: ModelResult) -> float:
        """Return what a million candidates cost, in the currency of the price."""
        return model.candidate.hours_per_million * self.price_per_hour

    def to_json(self) -> dict[str, Any]:
        """Return all numbers as plain JSON, with those that follow from them."""
        from puma_cli.checkpoint.provenance import to_plain

        plain: dict[str, Any] = to_plain(self)
        for model, entry in zip(self.models, plain["models"], strict=True):
            entry["cost_per_million"] = self.cost_per_million(model)
            for name in SIDES:
                side, found = model.side(name), entry[name]
                found["per_second"] = to_plain(side.per_second)
                found["tokens_per_second"] = side.tokens_per_second
                found["hours_per_million"] = side.hours_per_million
                for kind in ("alone", "alone_model", "batched", "batched_model"):
                    found[kind]["of_ideal"] = getattr(side, kind).of_ideal
        return plain
