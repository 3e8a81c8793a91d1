"""How long a model takes for one query, from picture and text to vector."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.profiling.cost.turns import take_turns

ROUNDS = 40
WARM_UP = 5


def measure_latency(
    models: Mapping[str, str | Path], query: Input, device: str = "auto", rounds: int = ROUNDS
) -> dict[str, float]:
    """Return each model's median milliseconds for one query at a time.

    The models take turns, so that whatever else the machine does falls on all of them alike.

    Args:
        models: what to load, by name.
        query: what to embed, with text and an image for a measure of all parts.
        rounds: timed calls of each model (>= 1).
    """
    embedders = {name: load(model, device) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for name, counts in take_turns(list(embedders), rounds, WARM_UP):
        began = time.perf_counter()
        # The vector comes back to the CPU, so an accelerator's work is over when this returns.
        embedders[name].encode([query], batch_size=1)
        if counts:
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in times.items()}
