"""A hand-made profile that several tests look at."""

from __future__ import annotations

import math

from puma_cli.profiling.bridges.bridge import BridgeFit
from puma_cli.profiling.cost.depth_cost import DepthCost, Parameters
from puma_cli.profiling.profile import LayerProfile, Measurement, TaskReadout, mean_curve
from puma_cli.profiling.recommendation.choice import choose
from puma_cli.profiling.recommendation.curves import Curves
from puma_cli.profiling.recommendation.predictor import predict
from puma_cli.profiling.retrieval.retention import Retention
from puma_cli.profiling.similarity.measures import LayerSimilarity
from tests.profiling.predictors import PREDICTOR

SHAPE = (0.0, 0.10, 0.30, 0.45, 0.58, 0.60, 0.61, 0.63, 0.66, 0.70, 0.73, 0.76, 0.78)
STEPS = (0.5, 0.2, 0.12, 0.1, 0.05, 0.05, 0.04, 0.04, 0.05, 0.06, 0.1, 0.15)
FACTORS = {0: 1.0, 1: 1.2, 2: 0.9, 3: 0.8, 4: 1.1, 6: 1.0, 7: 0.5, 8: 1.25}


def similarity(
    side: str, modality: str, scale: float = 1.0, depth: int = 12, place: str = "embed"
) -> LayerSimilarity:
    """Return one group's invented measures, angles larger with `scale`; depth 0 is constant."""
    # Steps add up as independent directions do; shorter in a deep model, or angles would pass 1.
    scale *= min(1.0, 12 / depth) ** 0.5
    steps = [scale * STEPS[layer % len(STEPS)] for layer in range(depth)]
    angular = tuple(
        tuple(math.hypot(*steps[start:end]) for end in range(start + 1, depth + 1))
        for start in range(depth)
    )
    cosine, trimmed, centred = (
        tuple(tuple(math.cos(factor * math.pi * angle) for angle in row) for row in angular)
        for factor in (1.0, 1.2, 1.3)
    )
    blank = (None,) * (depth + 1)
    cka = tuple(
        (None, *(1 - abs(row - column) / depth for column in range(1, depth + 1)))
        for row in range(1, depth + 1)
    )
    return LayerSimilarity(
        side=side,
        modality=modality,
        place=place,
        count=100,
        excluded=3 if place == "tokens" else 0,
        cosine_grid=cosine,
        angular_grid=angular,
        centred_grid=((None,) * depth, *centred[1:]),
        trimmed_grid=trimmed,
        cka=(blank, *cka),
    )


def profile(
    partial: bool = False, bridged: bool = True, keep_last: bool = True, predicted: bool = False
) -> LayerProfile:
    """Return the profile of an invented model with 12 layers and eight tasks.

    Args:
        bridged: with the readings that need a bridge.
        keep_last: with those of cuts that keep the last layer.
        predicted: with what trained students are predicted to keep.
    """
    shapes = {"first": SHAPE, "first_to_full": _mixed(SHAPE, 2.0)}
    if bridged:
        shapes |= {"bridged": _mixed(SHAPE, 0.6), "bridged_to_full": _mixed(SHAPE, 0.7)}
    if keep_last:
        shapes["keep_last"] = (0.0, 0.0, *_mixed(SHAPE, 0.9)[2:])
    if keep_last and bridged:
        shapes["keep_last_bridged"] = (0.0, 0.0, *_mixed(SHAPE, 0.5)[2:])
    readout = tuple(
        TaskReadout(
            task=f"scenes_task{number}",
            queries=200,
            candidates=1000,
            scores={
                name: {
                    metric: tuple(min(1.0, factor * value * easier) for value in shape)
                    for metric, easier in (("hit@1", 1.0), ("hit@5", 1.2), ("ndcg@10", 1.1))
                }
                for name, shape in shapes.items()
            },
        )
        for number, factor in FACTORS.items()
    )
    groups = tuple(
        similarity(side, modality, scale, place=place)
        for place in ("embed", "tokens")
        for side, shift in (("query", 1.0), ("candidate", 0.85))
        for modality, scale in (
            ("text", shift),
            ("image", 1.2 * shift),
            ("image,text", 1.1 * shift),
        )
    )
    parts = Parameters(250_000, 1_150_000, (350_000,) * 12, 192, 0)
    retention = {name: _retention(mean_curve(readout, "hit@1", name)) for name in shapes}
    prediction = None
    if predicted:
        prediction = predict(retention, dimension=192, full=SHAPE[-1], predictor=PREDICTOR)
    return LayerProfile(
        model="puma-mini",
        data="scenes",
        depth=12,
        dimension=192,
        measured=Measurement(
            split="val",
            partial=partial,
            stopped=False,
            seed=0,
            batch_size=128,
            repeats=5,
            device="cpu",
            dtype="float32",
            query_tokens=20.5,
            candidate_tokens=9.25,
            index_bytes=8000 * 192 * 2,
        ),
        parts=parts,
        costs=tuple(
            DepthCost(
                k=k,
                parameters=parts.at(k),
                weight_bytes=4 * parts.at(k),
                flops_query=3e6 + 14e6 * k,
                flops_candidate=4e6 + 7e6 * k,
                latency_query=2.0 + k,
                queries_per_second=1200.0 / (1 + k),
                candidates_per_second=2400.0 / (1 + k),
                peak_memory=None,
                measured=k in (1, 3, 6, 9, 12),
            )
            for k in range(1, 13)
        ),
        readout=readout,
        retention=retention,
        bridges={
            name: tuple(_fit(k) for k in range(first, 12))
            for name, first in (("bridged", 1), ("keep_last_bridged", 2))
            if name in shapes
        },
        similarity=groups,
        prediction=prediction,
        choice=choose(
            Curves(
                mean_curve(readout, "hit@1"),
                predicted=None if prediction is None else prediction.kept["first"],
            ),
            queries=1600,
        ),
    )


def _mixed(shape: tuple[float, ...], power: float) -> tuple[float, ...]:
    """Bend a curve while its ends stay: above 1 it sags, below it bulges."""
    return tuple(shape[-1] * (value / shape[-1]) ** power for value in shape)


def _retention(curve: tuple[float, ...]) -> Retention:
    shares = [value / curve[-1] for value in curve]
    width = [0.05 * min(share, 1 - share) for share in shares]
    return Retention(
        share=tuple(shares),
        low=tuple(share - w for share, w in zip(shares, width, strict=True)),
        high=tuple(share + w for share, w in zip(shares, width, strict=True)),
    )


def _fit(k: int) -> BridgeFit:
    return BridgeFit(
        kept=tuple(range(k)),
        strength=0.01,
        scale=1.1,
        rows=8000,
        held_out=800,
        cosine=0.5 + 0.04 * k,
        cosine_before=0.1 + 0.07 * k,
        error=1.0 - 0.08 * k,
    )
