"""Which process embeds which inputs of a batch."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.models.batch_plan import expected_cost
from puma_cli.models.inputs import Input


def deal(inputs: Sequence[Input], processes: int) -> list[list[int]]:
    """Return the places of each process's inputs, in ascending order; together they are all.

    They are dealt out by what they cost, so that every process gets its part of the images and of
    the long texts, and of the batch's work.
    """
    order = sorted(range(len(inputs)), key=lambda place: expected_cost(inputs[place]))
    return [sorted(order[process::processes]) for process in range(processes)]
