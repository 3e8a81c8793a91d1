"""Training examples: a query with one of its positives, and what must not be its negative."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from puma_cli.data.instructions import Instructions
from puma_cli.data.records import MODALITIES, Candidate, Query
from puma_cli.errors import DataError
from puma_cli.models.inputs import Input


@dataclass(frozen=True)
class ContrastiveBatch:
    """B queries and their B positives, as the losses need them.

    Args:
        queries: the queries' inputs (B).
        candidates: the positives' inputs (B); candidate i is the positive of query i.
        candidate_modality: code of each candidate's modality (B,).
        excluded: True where a candidate is no negative of a query (B, B): another of its
            positives, or the same content as its own positive.
    """

    queries: list[Input]
    candidates: list[Input]
    candidate_modality: torch.Tensor
    excluded: torch.Tensor


class Examples:
    """Builds contrastive batches from query indices, the same for the same seed and epoch.

    Args:
        queries: training queries; those with no positive in the pool are an error.
        pool: training candidates by id.
        instruction: `first` or `seeded`.
        augment: show images in random views.
        fixed: a query keeps its instruction over all epochs.

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
    ) -> None:
        self.queries = queries
        self._pool = {candidate.did: candidate for candidate in pool}
        self._instructions = instructions
        self._instruction = instruction
        self._seed = seed
        self._augment = augment
        self._fixed = fixed
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
        candidates = [self._positive(query, epoch) for query in queries]
        modalities = [MODALITIES.index(candidate.modality) for candidate in candidates]
        asked, answers = self._seen(queries, candidates, epoch)
        return ContrastiveBatch(
            queries=asked,
            candidates=answers,
            candidate_modality=torch.tensor(modalities),
            excluded=torch.tensor(_excluded(queries, candidates)),
        )

    def inputs(self, indices: Sequence[int], epoch: int) -> list[Input]:
        """Return what a model sees of the batch: its queries (B), then their positives (B)."""
        queries = [self.queries[index] for index in indices]
        candidates = [self._positive(query, epoch) for query in queries]
        asked, answers = self._seen(queries, candidates, epoch)
        return asked + answers

    def _seen(
        self, queries: Sequence[Query], candidates: Sequence[Candidate], epoch: int
    ) -> tuple[list[Input], list[Input]]:
        asked = [
            self._viewed(query.to_input(self._prompt(query, epoch)), f"{epoch}/{query.qid}/q")
            for query in queries
        ]
        answers = [
            self._viewed(candidate.to_input(), f"{epoch}/{query.qid}/c")
            for query, candidate in zip(queries, candidates, strict=True)
        ]
        return asked, answers

    def _prompt(self, query: Query, epoch: int) -> str | None:
        seed = f"{self._seed}" if self._fixed else f"{self._seed}.{epoch}"
        return self._instructions.pick(query, self._instruction, seed=seed)

    def _positive(self, query: Query, epoch: int) -> Candidate:
        present = [did for did in query.positives if did in self._pool]
        return self._pool[present[self._draw(f"{epoch}/{query.qid}") % len(present)]]

    def _viewed(self, entry: Input, key: str) -> Input:
        if not self._augment or entry.image is None:
            return entry
        return replace(entry, view=self._draw(key))

    def _draw(self, key: str) -> int:
        digest = hashlib.sha256(f"{self._seed}.{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big")


def _excluded(queries: Sequence[Query], candidates: Sequence[Candidate]) -> list[list[bool]]:
    contents = [(candidate.text, candidate.image) for candidate in candidates]
    rows = []
    for i, query in enumerate(queries):
        positives = set(query.positives)
        rows.append(
            [
                j != i and (candidate.did in positives or contents[j] == contents[i])
                for j, candidate in enumerate(candidates)
            ]
        )
    return rows
