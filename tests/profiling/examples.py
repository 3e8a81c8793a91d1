"""A hand-made profile that several tests look at."""

from __future__ import annotations

from puma_cli.profiling.choice import choose
from puma_cli.profiling.profile import LayerProfile, TaskReadout, mean_curve
from puma_cli.profiling.similarity import LayerSimilarity

SHAPE = (0.0, 0.10, 0.30, 0.45, 0.58, 0.60, 0.61, 0.63, 0.66, 0.70, 0.73, 0.76, 0.78)
FACTORS = {0: 1.0, 1: 1.2, 2: 0.9, 3: 0.8, 4: 1.1, 6: 1.0, 7: 0.5, 8: 1.25}


def similarity(side: str, modality: str, scale: float = 1.0) -> LayerSimilarity:
    """Return one group's measures for 12 layers, larger with `scale`."""
    angular = [
        scale * a for a in (0.5, 0.2, 0.12, 0.1, 0.05, 0.05, 0.04, 0.04, 0.05, 0.06, 0.1, 0.15)
    ]
    influence = [a * a * 3 for a in angular]
    to_final = [sum(angular[k:]) * 0.4 for k in range(13)]
    return LayerSimilarity(
        side=side,
        modality=modality,
        count=100,
        cosine=tuple(1 - b for b in influence),
        angular=tuple(angular),
        block_influence=tuple(influence),
        centred=(None, *(1 - 2 * b for b in influence[1:])),
        cosine_to_final=tuple(1 - a for a in to_final),
        angular_to_final=tuple(to_final),
    )


def profile(partial: bool = False) -> LayerProfile:
    """Return the profile of an invented model with 12 layers and eight tasks."""
    readout = tuple(
        TaskReadout(
            task=f"scenes_task{number}",
            queries=200,
            candidates=1000,
            scores={
                "hit@1": tuple(min(1.0, factor * value) for value in SHAPE),
                "hit@5": tuple(min(1.0, factor * value * 1.2) for value in SHAPE),
            },
        )
        for number, factor in FACTORS.items()
    )
    groups = tuple(
        similarity(side, modality, scale)
        for side, shift in (("query", 1.0), ("candidate", 0.85))
        for modality, scale in (
            ("text", shift),
            ("image", 1.2 * shift),
            ("image,text", 1.1 * shift),
        )
    )
    return LayerProfile(
        model="puma-mini",
        data="scenes",
        split="val",
        partial=partial,
        depth=12,
        dimension=192,
        parameters=tuple(1_500_000 + 350_000 * k for k in range(13)),
        readout=readout,
        similarity=groups,
        choice=choose(mean_curve(readout, "hit@1"), queries=1600),
    )
