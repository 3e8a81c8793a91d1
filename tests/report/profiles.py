"""Profiles with more or less in them than the hand-made one."""

from __future__ import annotations

from dataclasses import replace

from puma_cli.profiling.cost.depth_cost import Parameters
from puma_cli.profiling.profile import LayerProfile
from puma_cli.profiling.recommendation.choice import choose
from puma_cli.profiling.recommendation.curves import Curves
from puma_cli.profiling.retrieval.retention import Retention
from tests.profiling.examples import profile, similarity


def bare() -> LayerProfile:
    """Return a profile without bridges, the last layer, tokens, CKA and trimmed cosines."""
    made = profile(bridged=False, keep_last=False)
    entries = tuple(
        replace(entry, cka=None, trimmed_grid=entry.cosine_grid) for entry in made.at_embed
    )
    return replace(made, similarity=entries)


def deep(depth: int, full: float = 0.8) -> LayerProfile:
    """Return a profile of `depth` layers whose every curve rises to `full` in a straight line."""
    made = profile()
    curve = tuple(full * k / depth for k in range(depth + 1))
    tasks = tuple(
        replace(
            task,
            scores={name: dict.fromkeys(scores, curve) for name, scores in task.scores.items()},
        )
        for task in made.readout
    )
    share = tuple(value / full if full else None for value in curve)
    fit, cost = made.bridges["bridged"][0], made.costs[0]
    parts = Parameters(700_000_000, 500_000_000, (300_000_000,) * depth, 4096, 0)
    return replace(
        made,
        depth=depth,
        readout=tasks,
        retention=dict.fromkeys(made.readings, Retention(share, share, share)),
        parts=parts,
        costs=tuple(
            replace(cost, k=k, parameters=parts.at(k), measured=k == 1) for k in range(1, depth + 1)
        ),
        bridges={
            name: tuple(replace(fit, kept=tuple(range(k))) for k in range(1, depth))
            for name in made.bridges
        },
        similarity=tuple(
            similarity(entry.side, entry.modality, depth=depth, place=entry.place)
            for entry in made.similarity
        ),
        choice=choose(Curves(curve), queries=1600),
    )
