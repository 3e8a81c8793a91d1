"""Retrieval by every cut, and the similarity of its layers, from one pass over the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puma_cli.errors import DataError
from puma_cli.evaluation.encode import out_of_memory_explained
from puma_cli.evaluation.metrics import from_first_rank, ndcg
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.profiling.bridges.bridge import Bridge
from puma_cli.profiling.profile import TaskReadout
from puma_cli.profiling.retrieval.depth_search import DepthSearch, Match, Matching
from puma_cli.profiling.retrieval.readings import Reader, available
from puma_cli.profiling.sampling import Sample
from puma_cli.profiling.similarity.measures import LayerSimilarity
from puma_cli.profiling.similarity.probe import LayerProbe
from puma_cli.profiling.similarity.tokens import top_dimensions
from puma_cli.profiling.states.depth_states import DepthStates, read_states
from puma_cli.progress import SILENT, Reporter

METRICS = ("hit@1", "hit@5", "hit@10", "mrr@10", "ndcg@10")
SIDES = ("query", "candidate")

# The vectors of queries and of their relevant candidates stay in memory at every depth: exact up to
# the first bound, rounded to fp16 (four digits of a cosine) up to the second, refused beyond it.
EXACT_BYTES = 2 << 30
LARGEST_BYTES = 16 << 30
CALIBRATION = 32

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Readout:
    """What passing the data through a model showed.

    Args:
        tasks: one entry for each task.
        similarity: one for each side, place and modality.
        hits: for each reading and task, hit@1 of each query at depths 0 to L, (Q, L + 1).
    """

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
    reporter: Reporter = SILENT,
) -> Readout:
    """Score every cut on the sample's queries and pools, each input passing the model once.

    Of the candidates, only those that are relevant to a query are held; the others are compared
    with the queries and forgotten.

    Args:
        bridges: fitted maps for the readings `bridged` and `keep_last_bridged`, by their names.
        keep_last: also read out the cuts that keep the last layer.
        tokens: also measure similarity at tokens besides the embed token, and CKA.

    Raises:
        DataError: an input cannot be read, or the queries are too many to be held at every depth.
        DeviceError: the device runs out of memory.
        NumericError: a layer's output is not finite.
    """
    run = _Run(embedder, sample, Reader(embedder, bridges), keep_last, batch_size, reporter)
    with evaluation_mode(embedder.model), out_of_memory_explained(batch_size):
        removed = _dominant_dimensions(embedder, sample, seed) if tokens else None
        probes = {
            side: LayerProbe(
                side, embedder.depth, inputs, seed=seed, removed=removed, tokens=tokens
            )
            for side, inputs in zip(SIDES, (sample.queries, sample.candidates), strict=True)
        }
        queries = run.hold(range(len(sample.queries)), sample.queries, probes["query"], "queries")
        first = range(sample.positives)
        positives = run.hold(first, sample.candidates, probes["candidate"], "relevant candidates")
        searches = {
            reading.name: DepthSearch(sample, reading, queries, positives)
            for reading in available(queries, embedder)
        }
        matching = Matching(sample)
        for start in range(0, sample.positives, batch_size):
            # These compete as well, for the queries that they are not relevant to.
            held = list(range(start, min(start + batch_size, sample.positives)))
            part = {name: found[:, held] for name, found in positives.items()}
            _add(searches, matching.match(held), part)
        rest = range(sample.positives, len(sample.candidates))
        for chosen, vectors in run.stream(
            rest, sample.candidates, probes["candidate"], "other candidates"
        ):
            _add(searches, matching.match(chosen), vectors)
    positions = {name: search.positions() for name, search in searches.items()}
    return Readout(
        tasks=tuple(_score(sample, place, positions) for place in range(len(sample.tasks))),
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


class _Run:
    """The passes of one analysis over its inputs."""

    def __init__(
        self,
        embedder: Embedder,
        sample: Sample,
        reader: Reader,
        keep_last: bool,
        batch_size: int,
        reporter: Reporter,
    ) -> None:
        self._embedder, self._reader, self._keep_last = embedder, reader, keep_last
        self._batch_size, self._reporter = batch_size, reporter
        rows = len(sample.queries) + sample.positives
        length = max(embedder.width, embedder.dimension)
        self._dtype = storage(rows * (embedder.depth + 1) * length * reader.ways(keep_last))

    def stream(
        self, places: Sequence[int], inputs: Sequence[Input], probe: LayerProbe, label: str
    ) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Yield the places of each batch and its unit vectors by name, as they are stored."""
        asked = [inputs[place] for place in places]
        if not asked:
            return
        batches = self._embedder.batches(asked, self._batch_size, self._reporter, label)
        for chosen, batch in batches:
            where = [places[place] for place in chosen]
            tokens = probe.places(where, batch)
            states = read_states(self._embedder, batch, tokens, self._keep_last)
            probe.add(where, states, tokens)
            # Rounded like the held ones, so that equal inputs tie.
            vectors = self._reader(states).items()
            yield where, {name: found.to(self._dtype) for name, found in vectors}

    def hold(
        self, places: Sequence[int], inputs: Sequence[Input], probe: LayerProbe, label: str
    ) -> dict[str, Tensor]:
        """Return the unit vectors (K, N, D) of some inputs, in their order."""
        out: dict[str, Tensor] = {}
        for where, vectors in self.stream(places, inputs, probe, label):
            for name, found in vectors.items():
                if name not in out:
                    size = (found.shape[0], len(places), found.shape[2])
                    out[name] = torch.zeros(size, dtype=found.dtype, device=found.device)
                out[name][:, where] = found
        if not out:
            raise DataError(
                f"There are no {label} to measure.",
                cause="No query's relevant candidates are in its pool.",
                hint="Check the qrels and the candidate pools; puma eval names queries without.",
            )
        return out


def storage(numbers: int) -> torch.dtype:
    """Return the dtype in which so many numbers are held.

    Raises:
        DataError: they are too many for either.
    """
    if numbers * 4 <= EXACT_BYTES:
        return torch.float32
    if numbers * 2 <= LARGEST_BYTES:
        return torch.float16
    raise DataError(
        f"The embeddings at every depth would take {numbers * 2 / 1e9:.0f} GB.",
        cause="The queries and their relevant candidates are held once for each layer.",
        hint="Take fewer queries with --samples.",
    )


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
    judged = np.array([len(row) for row in task.relevant])
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
        task=task.name.name,
        queries=len(task.queries),
        candidates=len(sample.pools[place].candidates),
        scores=scores,
    )
