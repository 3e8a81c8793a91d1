"""What a cut of each depth costs: parameters, bytes, FLOPs, time and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from puma_cli.models.embedder import Embedder
    from puma_cli.profiling.cost.flops import ForwardFlops
    from puma_cli.profiling.cost.latency import Speed


@dataclass(frozen=True)
class Parameters:
    """The parameters of a model by part.

    Args:
        embedding: the token embeddings.
        vision: the vision tower with its merger.
        layers: each decoder layer, (L,).
        rest: everything else, such as the final norm.
        head: the linear head after the model, 0 without one.
    """

    embedding: int
    vision: int
    layers: tuple[int, ...]
    rest: int
    head: int

    def at(self, k: int) -> int:
        """Return the parameters of the model cut after k decoder layers (0 to L).

        A cut drops the head, which reads the states of the last layer; it counts at L alone.
        """
        head = self.head if k == len(self.layers) else 0
        return self.embedding + self.vision + sum(self.layers[:k]) + self.rest + head


@dataclass(frozen=True)
class DepthCost:
    """What the model cut after k decoder layers costs.

    Args:
        k: decoder layers (1 to L).
        parameters: number of its weights.
        weight_bytes: their bytes, in the number format that the model was opened in.
        flops_query: mean FLOPs of embedding a query.
        flops_candidate: mean FLOPs of embedding a candidate.
        latency_query: milliseconds for one query alone.
        queries_per_second: queries embedded in a second, in batches.
        candidates_per_second: candidates embedded in a second, in batches.
        peak_memory: most bytes allocated on the device, weights included, or None where the device
            does not say.
        measured: False where times and memory are read off a line through the measured depths.
    """

    k: int
    parameters: int
    weight_bytes: int
    flops_query: float
    flops_candidate: float
    latency_query: float
    queries_per_second: float
    candidates_per_second: float
    peak_memory: int | None
    measured: bool


def count_parameters(embedder: Embedder) -> Parameters:
    """Return the parameters of an open model by part; tied weights count once."""
    return _by_part(embedder, lambda weight: weight.numel())


def index_bytes(candidates: int, dimension: int, number_bytes: int = 2) -> int:
    """Return the bytes of the candidates' vectors, which no depth of the decoder changes.

    Args:
        candidates: number of vectors (>= 0).
        dimension: length of a vector (>= 1). A head may change it, and a cut drops the head.
        number_bytes: bytes of a number (>= 1), 2 for float16.
    """
    return candidates * dimension * number_bytes


def costs_by_depth(
    embedder: Embedder, query: ForwardFlops, candidate: ForwardFlops, speed: Speed
) -> tuple[DepthCost, ...]:
    """Return what every depth k = 1 to L costs, (L,).

    Args:
        query: FLOPs of a query.
        candidate: FLOPs of a candidate.
        speed: times and memory, one entry for each depth.
    """
    parameters = count_parameters(embedder)
    sizes = _by_part(embedder, lambda weight: weight.numel() * weight.element_size())
    return tuple(
        DepthCost(
            k=depth.k,
            parameters=parameters.at(depth.k),
            weight_bytes=sizes.at(depth.k),
            flops_query=query.at(depth.k),
            flops_candidate=candidate.at(depth.k),
            latency_query=depth.latency,
            queries_per_second=depth.queries_per_second,
            candidates_per_second=depth.candidates_per_second,
            # While a cut is measured, all layers lie on the device: what it would hold of its own
            # are its weights and what it works with.
            peak_memory=None
            if depth.working_memory is None
            else sizes.at(depth.k) + depth.working_memory,
            measured=depth.measured,
        )
        for depth in speed.depths
    )


def _by_part(embedder: Embedder, size: Callable[[nn.Parameter], int]) -> Parameters:
    decoder, head = embedder.decoder, embedder.head
    embedding, vision, *layers = (
        0 if part is None else sum(size(weight) for weight in part.parameters())
        for part in chain((decoder.embed_tokens, embedder.tower), decoder.layers)
    )
    whole = sum(size(weight) for weight in embedder.model.parameters())
    return Parameters(
        embedding=embedding,
        vision=vision,
        layers=tuple(layers),
        rest=whole - embedding - vision - sum(layers),
        head=0 if head is None else sum(size(weight) for weight in head.parameters()),
    )
