"""Retrieval by every cut, and the similarity of its layers, from one pass over the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puma_cli.encoding.out_of_memory import out_of_memory_explained
from puma_cli.evaluation.metrics import from_first_rank, ndcg
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.modes import evaluation_mode
from puma_cli.processes import ALONE, Processes
from puma_cli.profiling.bridges.bridge import Bridge
from puma_cli.profiling.profile import TaskReadout
from puma_cli.profiling.retrieval.depth_search import DepthSearch, Match, Matching
from puma_cli.profiling.retrieval.passes import Passes
from puma_cli.profiling.retrieval.readings import Reader, available
from puma_cli.profiling.sampling import Sample
from puma_cli.profiling.similarity.measures import LayerSimilarity
from puma_cli.profiling.similarity.probe import LayerProbe
from puma_cli.profiling.similarity.tokens import top_dimensions
from puma_cli.profiling.states.depth_states import DepthStates, read_states
from puma_cli.progress import SILENT, Reporter

METRICS = ("hit@1", "hit@5", "hit@10", "mrr@10", "ndcg@10")
SIDES = ("query", "candidate")

CALIBRATION = 32

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Readout:
    """What passing the data through a model showed.

    Args:
        sample: what was scored: the whole sample, or the part that passed before a stop.
        tasks: one entry for each task.
        similarity: one for each side, place and modality.
        hits: for each reading and task, hit@1 of each query at depths 0 to L, (Q, L + 1).
    """

    sample: Sample
    tasks: tuple[TaskReadout, ...]
    similarity: tuple[LayerSimilarity, ...]
    hits: dict[str, list[Array]]


def read_out_depths(
    embedder: Embedder,
    sample: Sample,
    bridges: Mapping[str, Sequence[Bridge]],
    *,
    keep_last: bool = True,
    tokens: bool = True,
    batch_size: int = 128,
    seed: int = 0,
    stop: StopRequest | None = None,
    reporter: Reporter = SILENT,
    processes: Processes = ALONE,
) -> Readout:
    """Score every cut on the sample's queries and pools, each input passing the model once.

    Of the candidates, only those that are relevant to a query are held; the others are compared
    with the queries and forgotten.

    Args:
        bridges: fitted maps for the readings `bridged` and `keep_last_bridged`, by their names.
        keep_last: also read out the cuts that keep the last layer.
        tokens: also measure similarity at tokens besides the embed token, and CKA.
        seed: seed of the order, and of the tokens drawn.
        stop: a stop that may be asked for: what passed until then is scored, queries against the
            candidates that passed.
        processes: those that the inputs are shared among; each gets the whole result.

    Raises:
        DataError: an input cannot be read, or the queries are too many to be held at every depth.
        DeviceError: the device runs out of memory.
        NumericError: a layer's output is not finite.
    """
    with evaluation_mode(embedder.model), out_of_memory_explained(batch_size):
        removed = _dominant_dimensions(embedder, sample, seed) if tokens else None
        probes = {
            side: LayerProbe(
                side, embedder.depth, inputs, seed=seed, removed=removed, tokens=tokens
            )
            for side, inputs in zip(SIDES, (sample.queries, sample.candidates), strict=True)
        }
        passes = Passes(
            embedder,
            sample,
            Reader(embedder, bridges),
            probes,
            keep_last=keep_last,
            batch_size=batch_size,
            seed=seed,
            stop=stop,
            processes=processes,
            reporter=reporter,
        )
        held = passes.hold()
        searches = {
            reading.name: DepthSearch(held.sample, reading, held.queries, held.positives)
            for reading in available(held.queries, embedder)
        }
        matching = Matching(held.sample)
        starts = processes.share(range(0, len(held.seen), batch_size))
        for start in starts:
            # These compete as well, for the queries that they are not relevant to.
            chosen = held.seen[start : start + batch_size]
            part = {name: found[:, chosen] for name, found in held.positives.items()}
            _add(searches, matching.match(chosen), part)
        seen = set(held.seen)
        for chosen, vectors in passes.others():
            _add(searches, matching.match(chosen), vectors)
            seen.update(chosen)
        for search in searches.values():
            search.merge(processes)
        for probe in probes.values():
            probe.merge(processes)
    seen = set().union(*processes.gather(seen))
    scored = held.sample
    if len(seen) < len(sample.candidates):
        scored = scored.only(range(len(sample.queries)), seen)
    positions = {name: search.positions() for name, search in searches.items()}
    return Readout(
        sample=scored,
        tasks=tuple(_score(scored, place, positions) for place in range(len(scored.tasks))),
        similarity=tuple(entry for side in SIDES for entry in probes[side].results()),
        hits={
            name: [
                np.stack([from_first_rank("hit@1", at[:, 0]) for at in task], axis=1)
                for task in found
            ]
            for name, found in positions.items()
        },
    )


def _add(
    searches: Mapping[str, DepthSearch], matches: Sequence[Match], vectors: Mapping[str, Tensor]
) -> None:
    for search in searches.values():
        search.add(matches, vectors)


def _dominant_dimensions(embedder: Embedder, sample: Sample, seed: int) -> Tensor:
    """Return the dimensions that massive activations live in, from a small sample of both sides."""
    parts: list[DepthStates] = []
    for inputs in (sample.queries, sample.candidates):
        size = min(CALIBRATION, len(inputs))
        drawn = np.random.default_rng(seed).choice(len(inputs), size, replace=False)
        batch = embedder.collate([inputs[place] for place in drawn]).to(embedder.device)
        parts.append(read_states(embedder, batch))
    return top_dimensions(torch.cat([part.embed for part in parts], dim=1))


def _score(
    sample: Sample, place: int, positions: Mapping[str, list[NDArray[np.int64]]]
) -> TaskReadout:
    task = sample.tasks[place]
    judged = np.array(task.judged)
    scores: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, found in positions.items():
        scores[name] = {
            metric: tuple(
                float(
                    np.mean(
                        ndcg(ranks, judged, 10)
                        if metric == "ndcg@10"
                        else from_first_rank(metric, ranks[:, 0])
                    )
                )
                for ranks in found[place]
            )
            for metric in METRICS
        }
    return TaskReadout(
        task=task.name,
        queries=len(task.queries),
        candidates=len(task.candidates),
        scores=scores,
    )
