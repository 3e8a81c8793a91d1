"""A sample's way through a model in rounds, so that a stop keeps what earlier rounds measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from puma_cli.errors import DataError
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.processing import Batch
from puma_cli.models.read_ahead import read_ahead
from puma_cli.processes import Processes
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
# One side and the places of some of its inputs; then their batch as well.
Part = tuple[str, list[int]]
Collated = tuple[str, list[int], Batch]


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
        processes: those that share the passes.
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
        processes: Processes,
        reporter: Reporter,
    ) -> None:
        self._embedder, self._sample, self._reader = embedder, sample, reader
        self._inputs = {"query": sample.queries, "candidate": sample.candidates}
        self._probes, self._keep_last, self._batch_size = probes, keep_last, batch_size
        self._random = np.random.default_rng(seed)
        self._stop, self._processes, self._reporter = stop, processes, reporter
        rows = len(sample.queries) + sample.positives
        self._shapes = reader.shapes(keep_last)
        self._dtype = storage(sum(rows * depths * width for depths, width in self._shapes.values()))

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
            [
                (side, places)
                for side, part in (("query", queries), ("candidate", positives))
                for places in self._plan(side, part)
            ]
            for queries, positives in rounds
        ]
        held = {
            "query": self._zeros(len(sample.queries)),
            "candidate": self._zeros(sample.positives),
        }
        # Queries alone show nothing.
        least = next(number for number, (_, new) in enumerate(rounds, start=1) if new)
        done: list[int] = []
        label = "queries and relevant candidates"
        for side, places, batch in self._rounds(plan, label, least, done):
            for name, found in self._read(side, places, batch).items():
                held[side][name][:, places] = found
        for vectors in held.values():
            # Each process has filled in the places that it read.
            self._processes.total(*vectors.values())
        asked = {place for number in done for place in rounds[number][0]}
        seen = {place for number in done for place in rounds[number][1]}
        if len(done) < len(rounds):
            sample = sample.only(asked, seen)
        return Held(sample, held["query"], held["candidate"], sorted(seen))

    def others(self) -> Iterator[tuple[list[int], Vectors]]:
        """Yield the places and the vectors of the other candidates that this process reads."""
        order = self._sample.positives + self._random.permutation(
            len(self._sample.candidates) - self._sample.positives
        )
        size = ROUND_BATCHES * self._batch_size
        plan = [
            [("candidate", places) for places in self._plan("candidate", part.tolist())]
            for part in (order[start : start + size] for start in range(0, len(order), size))
        ]
        for side, places, batch in self._rounds(plan, "other candidates", 0, []):
            yield places, self._read(side, places, batch)

    def _rounds(
        self, plan: Sequence[Sequence[Part]], label: str, least: int, done: list[int]
    ) -> Iterator[Collated]:
        """Yield this process's share of each round's batches, until all agree to stop.

        Args:
            least: the number of rounds that pass in any case.
            done: takes the numbers of the rounds that passed.
        """
        shares = [self._processes.share(batches) for batches in plan]

        def batches() -> Iterator[Part]:
            for number, share in enumerate(shares):
                if number >= least and self._processes.any(bool(self._stop)):
                    return
                yield from share
                done.append(number)

        def collated(part: Part) -> Collated:
            side, places = part
            inputs = [self._inputs[side][place] for place in places]
            return side, places, self._embedder.collate(inputs)

        total = sum(map(len, shares))
        yield from self._reporter.track(read_ahead(batches(), collated), label, total=total)

    def _zeros(self, rows: int) -> Vectors:
        return {
            name: torch.zeros(depths, rows, width, dtype=self._dtype, device=self._embedder.device)
            for name, (depths, width) in self._shapes.items()
        }

    def _plan(self, side: str, places: Sequence[int]) -> list[list[int]]:
        inputs = [self._inputs[side][place] for place in places]
        plan = self._embedder.plan(inputs, self._batch_size)
        return [[places[index] for index in batch] for batch in plan]

    def _read(self, side: str, places: Sequence[int], batch: Batch) -> Vectors:
        """Return the unit vectors of some inputs (K, B, D) by name, as they are stored."""
        embedder, probe = self._embedder, self._probes[side]
        batch = batch.to(embedder.device)
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
