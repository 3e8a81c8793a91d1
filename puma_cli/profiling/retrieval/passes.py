"""A sample's way through a model in rounds, so that a stop keeps what earlier rounds measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from puma_cli.errors import DataError
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder, plan_batches
from puma_cli.profiling.retrieval.readings import Reader
from puma_cli.profiling.sampling import Sample
from puma_cli.profiling.similarity.probe import LayerProbe
from puma_cli.profiling.states.depth_states import read_states
from puma_cli.progress import Reporter

# A round is a random part of the inputs in order of length: long enough that its batches pad
# little, short enough that a stop loses little.
ROUND_BATCHES = 4

# The vectors of queries and of their relevant candidates stay in memory at every depth: exact up to
# the first bound, rounded to fp16 (four digits of a cosine) up to the second, refused beyond it.
EXACT_BYTES = 2 << 30
LARGEST_BYTES = 16 << 30

Vectors = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Held:
    """The vectors that stay in memory, and the part of the sample that has them.

    Args:
        sample: the sample, without the queries that a stop left out.
        queries: unit vectors (K, Q, D) by name, in the order of the sample's queries.
        positives: the same of its relevant candidates.
        seen: places of the relevant candidates that passed.
    """

    sample: Sample
    queries: Vectors
    positives: Vectors
    seen: list[int]


class Passes:
    """The passes of one analysis over its sample.

    Args:
        probes: what measures similarity on the way, of each side.
        keep_last: also run the cuts that keep the last layer.
        seed: seed of the order.
        stop: a stop that may be asked for, or None.
    """

    def __init__(
        self,
        embedder: Embedder,
        sample: Sample,
        reader: Reader,
        probes: Mapping[str, LayerProbe],
        *,
        keep_last: bool,
        batch_size: int,
        seed: int,
        stop: StopRequest | None,
        reporter: Reporter,
    ) -> None:
        self._embedder, self._sample, self._reader = embedder, sample, reader
        self._inputs = {"query": sample.queries, "candidate": sample.candidates}
        self._probes, self._keep_last, self._batch_size = probes, keep_last, batch_size
        self._random = np.random.default_rng(seed)
        self._stop, self._reporter = stop, reporter
        rows = len(sample.queries) + sample.positives
        length = max(embedder.width, embedder.dimension)
        self._dtype = storage(rows * (embedder.depth + 1) * length * reader.ways(keep_last))

    def hold(self) -> Held:
        """Pass the queries and their relevant candidates, and return their vectors.

        Raises:
            DataError: no query has a relevant candidate in its pool.
        """
        sample = self._sample
        if not sample.positives:
            raise DataError(
                "There are no relevant candidates to measure.",
                cause="No query's relevant candidates are in its pool.",
                hint="Check the qrels and the candidate pools; puma eval names queries without.",
            )
        rounds = draw_rounds(sample, ROUND_BATCHES * self._batch_size, self._random)
        plan = [
            (number, side, places)
            for number, (queries, positives) in enumerate(rounds)
            for side, part in (("query", queries), ("candidate", positives))
            for places in self._plan(side, part)
        ]
        vectors: dict[str, Vectors] = {"query": {}, "candidate": {}}
        rows = {"query": len(sample.queries), "candidate": sample.positives}
        done = 0
        label = "queries and relevant candidates"
        for number, side, places in self._reporter.track(plan, label, total=len(plan)):
            if number > done:
                done = number
                if self._stop and vectors["candidate"]:
                    break
            _keep(self._read(side, places), places, vectors[side], rows[side])
        else:
            done = len(rounds)
        asked = {place for queries, _ in rounds[:done] for place in queries}
        seen = {place for _, positives in rounds[:done] for place in positives}
        if done < len(rounds):
            sample = sample.only(asked, seen)
        return Held(sample, vectors["query"], vectors["candidate"], sorted(seen))

    def others(self) -> Iterator[tuple[list[int], Vectors]]:
        """Yield the places and the vectors of the other candidates, batch by batch."""
        order = self._sample.positives + self._random.permutation(
            len(self._sample.candidates) - self._sample.positives
        )
        size = ROUND_BATCHES * self._batch_size
        plan = [
            places
            for start in range(0, len(order), size)
            for places in self._plan("candidate", order[start : start + size].tolist())
        ]
        for places in self._reporter.track(plan, "other candidates", total=len(plan)):
            if self._stop:
                return
            yield places, self._read("candidate", places)

    def _plan(self, side: str, places: Sequence[int]) -> list[list[int]]:
        inputs = [self._inputs[side][place] for place in places]
        plan = plan_batches(inputs, self._batch_size)
        return [[places[index] for index in batch] for batch in plan]

    def _read(self, side: str, places: Sequence[int]) -> Vectors:
        """Return the unit vectors of some inputs (K, B, D) by name, as they are stored."""
        embedder, probe = self._embedder, self._probes[side]
        inputs = [self._inputs[side][place] for place in places]
        batch = embedder.collate(inputs).to(embedder.device)
        tokens = probe.places(places, batch)
        states = read_states(embedder, batch, tokens, self._keep_last)
        probe.add(places, states, tokens)
        # Rounded like the held ones, so that equal inputs tie.
        return {name: found.to(self._dtype) for name, found in self._reader(states).items()}


def draw_rounds(
    sample: Sample, size: int, random: np.random.Generator
) -> list[tuple[list[int], list[int]]]:
    """Divide a sample's queries into random rounds of at most `size`.

    Returns:
        for each round the places of its queries, and of those of their relevant candidates that no
        earlier round has.
    """
    wanted: dict[int, set[int]] = {place: set() for place in range(len(sample.queries))}
    for task in sample.tasks:
        for query, relevant in zip(task.queries, task.relevant, strict=True):
            wanted[query].update(task.candidates[entry] for entry in relevant)
    order = random.permutation(len(sample.queries)).tolist()
    rounds: list[tuple[list[int], list[int]]] = []
    seen: set[int] = set()
    for start in range(0, len(order), size):
        queries = order[start : start + size]
        new = set().union(*(wanted[query] for query in queries)) - seen
        seen |= new
        rounds.append((queries, sorted(new)))
    return rounds


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


def _keep(found: Vectors, places: Sequence[int], kept: Vectors, rows: int) -> None:
    for name, vectors in found.items():
        if name not in kept:
            size = (vectors.shape[0], rows, vectors.shape[2])
            kept[name] = torch.zeros(size, dtype=vectors.dtype, device=vectors.device)
        kept[name][:, places] = vectors
