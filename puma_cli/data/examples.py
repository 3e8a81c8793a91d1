"""Training examples: a query with one of its positives, and what must not be its negative."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from puma_cli.data.columns import Columns
from puma_cli.data.instructions import Instructions
from puma_cli.data.records import MODALITIES, Candidate, Query
from puma_cli.errors import DataError
from puma_cli.losses import Labels
from puma_cli.models.inputs import Input


@dataclass(frozen=True)
class ContrastiveBatch:
    """B queries and C distinct candidates, as the losses need them.

    Args:
        queries: the queries' inputs (B).
        candidates: the candidates' inputs (C): the positives, then the hard negatives; what several
            queries share comes once.
        labels: which candidates answer which queries; excluded are a query's other positives.
        names: ids of the queries and of the candidates (B + C), to name them in messages.
        hard_negatives: how many of the candidates came as hard negatives alone.
    """

    queries: list[Input]
    candidates: list[Input]
    labels: Labels
    names: list[str]
    hard_negatives: int = 0

    @property
    def inputs(self) -> list[Input]:
        """What a model sees of the batch (B + C)."""
        return self.queries + self.candidates


class Examples:
    """Builds contrastive batches from query indices, the same for the same seed and epoch.

    Args:
        queries: training queries; those with no positive in the pool are an error.
        pool: training candidates by id.
        instruction: `first` or `seeded`.
        augment: show images in random views.
        fixed: a query keeps its instruction over all epochs.
        negatives: hard negatives that a query brings at most, drawn anew in every epoch (>= 0).

    Raises:
        DataError: a query's positives are all missing from the pool.
    """

    def __init__(
        self,
        queries: Sequence[Query],
        pool: Sequence[Candidate],
        instructions: Instructions,
        instruction: str,
        seed: int,
        augment: bool = False,
        fixed: bool = False,
        negatives: int = 0,
    ) -> None:
        self.queries = queries
        self._pool = {candidate.did: candidate for candidate in pool}
        self._instructions = instructions
        self._instruction = instruction
        self._seed = seed
        self._augment = augment
        self._fixed = fixed
        self._negatives = negatives
        for query in queries:
            if not any(did in self._pool for did in query.positives):
                raise DataError(
                    f"The training query {query.qid!r} has no positive in the training pool.",
                    cause=f"Its positives are {list(query.positives)[:5]}.",
                    hint="Check cand_pool/global/mbeir_union_train_cand_pool.jsonl.",
                )

    def batch(self, indices: Sequence[int], epoch: int) -> ContrastiveBatch:
        """Return the batch of the queries at `indices`."""
        queries = [self.queries[index] for index in indices]
        columns = Columns()
        target = [columns.add(self._positive(query, epoch)) for query in queries]
        positives = len(columns)
        for query in queries:
            for candidate in self._hard_negatives(query, epoch):
                columns.add(candidate)
        excluded = torch.zeros(len(queries), len(columns), dtype=torch.bool)
        for row, query in enumerate(queries):
            known = [self._pool[did] for did in query.relevant if did in self._pool]
            excluded[row, columns.find(known)] = True
            excluded[row, target[row]] = False
        return ContrastiveBatch(
            queries=[
                self._viewed(query.to_input(self._prompt(query, epoch)), f"{epoch}/{query.qid}/q")
                for query in queries
            ],
            candidates=[
                self._viewed(candidate.to_input(), f"{epoch}/{candidate.did}/c")
                for candidate in columns.candidates
            ],
            labels=Labels(
                torch.tensor(target), excluded, _codes(queries), _codes(columns.candidates)
            ),
            names=[query.qid for query in queries] + [each.did for each in columns.candidates],
            hard_negatives=len(columns) - positives,
        )

    def _prompt(self, query: Query, epoch: int) -> str | None:
        seed = f"{self._seed}" if self._fixed else f"{self._seed}.{epoch}"
        return self._instructions.pick(query, self._instruction, seed=seed)

    def _positive(self, query: Query, epoch: int) -> Candidate:
        present = [did for did in query.positives if did in self._pool]
        return self._pool[present[self._draw(f"{epoch}/{query.qid}") % len(present)]]

    def _hard_negatives(self, query: Query, epoch: int) -> list[Candidate]:
        if not self._negatives:
            return []
        relevant = set(query.relevant)
        present = [did for did in query.negatives if did in self._pool and did not in relevant]
        # Ordered by a hash, so that another epoch draws others and nothing else has a say.
        present.sort(key=lambda did: self._draw(f"{epoch}/{query.qid}/{did}"))
        return [self._pool[did] for did in present[: self._negatives]]

    def _viewed(self, entry: Input, key: str) -> Input:
        if not self._augment or entry.image is None:
            return entry
        return replace(entry, view=self._draw(key))

    def _draw(self, key: str) -> int:
        digest = hashlib.sha256(f"{self._seed}.{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big")


def _codes(records: Sequence[Query | Candidate]) -> torch.Tensor:
    return torch.tensor([MODALITIES.index(record.modality) for record in records])
