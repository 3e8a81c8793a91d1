"""The candidates that negatives come from: whatever shows the same is one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping

from puma_cli.data.columns import Columns
from puma_cli.data.records import Candidate, dataset_of
from puma_cli.errors import DataError

Kind = tuple[str, str]
"""A data set's number and a modality: a benchmark's local pools hold one kind each."""

Kinds = frozenset[Kind] | None
"""The kinds that a question's negatives may have, or None for all."""


class DistinctPool:
    """The distinct candidates of a training pool, each at a place of its own.

    Args:
        candidates: the pool, read once; there may be millions.
        wanted: the ids whose places will be asked for.

    Raises:
        DataError: there are no candidates.
    """

    def __init__(self, candidates: Iterable[Candidate], wanted: Container[str]) -> None:
        columns = Columns()
        self.size = 0
        self.place_of: dict[str, int] = {}
        # The ids of other kinds that show the same as the first: data sets share passages.
        self._others: dict[int, dict[Kind, str]] = {}
        for candidate in candidates:
            self.size += 1
            place = columns.add(candidate)
            if candidate.did in wanted:
                self.place_of.setdefault(candidate.did, place)
            kind = kind_of(candidate)
            if kind != kind_of(columns.candidates[place]):
                self._others.setdefault(place, {}).setdefault(kind, candidate.did)
        self.candidates = columns.candidates
        if not self.candidates:
            raise DataError(
                "The training pool is empty: there is nothing to mine.",
                hint="Check cand_pool/global/mbeir_union_train_cand_pool.jsonl.",
            )

    def places(self, dids: Iterable[str]) -> list[int]:
        """Return the places of those wanted ids that the pool holds, ascending, each once."""
        return sorted({self.place_of[did] for did in dids if did in self.place_of})

    def kinds_of(self, dids: Iterable[str]) -> frozenset[Kind]:
        """Return the kinds of those wanted ids that the pool holds."""
        return frozenset(
            (dataset_of(did), self.candidates[self.place_of[did]].modality)
            for did in dids
            if did in self.place_of
        )

    def ids(self, place: int) -> Mapping[Kind, str]:
        """Return an id for each kind that what is at `place` comes in."""
        first = self.candidates[place]
        return {kind_of(first): first.did, **self._others.get(place, {})}

    def did(self, place: int, kinds: Kinds) -> str:
        """Return the id of what is at `place`, one of the given kinds."""
        return next(d for kind, d in self.ids(place).items() if kinds is None or kind in kinds)

    def by_kind(self, places: Iterable[int]) -> dict[Kind, list[int]]:
        """Return which of `places`, as positions among them, come in each kind."""
        found: dict[Kind, list[int]] = defaultdict(list)
        for position, place in enumerate(places):
            for kind in self.ids(place):
                found[kind].append(position)
        return found


def kind_of(candidate: Candidate) -> Kind:
    """Return a candidate's data set and modality."""
    return dataset_of(candidate.did), candidate.modality
