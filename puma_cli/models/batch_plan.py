"""Which inputs are embedded together."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.models.inputs import Input


def plan_batches(inputs: Sequence[Input], batch_size: int) -> list[list[int]]:
    """Divide inputs into batches, as their places; the cheapest come first.

    Inputs of like length and kind side by side waste the least padding.
    """
    order = sorted(range(len(inputs)), key=lambda index: expected_cost(inputs[index]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def expected_cost(entry: Input) -> tuple[bool, int]:
    """Return what orders inputs by what they cost to embed, as far as one sees without reading."""
    return entry.image is not None, len(entry.text or "") + len(entry.instruction or "")
