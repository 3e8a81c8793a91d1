"""The hardest negatives of many queries, found while blocks of candidates pass by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from puma_cli.evaluation.top import merged, top
from puma_cli.processes import Processes

_QUERIES = 1024
# Queries whose results the processes exchange at a time.
_EXCHANGED = 1 << 16


@dataclass(frozen=True)
class Bounds:
    """Which scores a negative may have.

    Args:
        margins: for each query the highest that leaves it clear of the positives (Q,).
        highest: the highest for every query.
        lowest: the lowest for every query.
    """

    margins: Tensor
    highest: float = torch.inf
    lowest: float = -torch.inf


def margin(positive: Tensor, share: float | None) -> Tensor:
    """Return the bound s - (1 - m) |s| at each positive's score s, m being `share`.

    For s > 0 it is m s ("TopK-PercPos" of NV-Retriever, arXiv 2407.15831). For s < 0, m s would
    lie above the positive itself; this bound is as far below it as it is for -s.
    """
    if share is None:
        return torch.full_like(positive, torch.inf)
    return positive - (1 - share) * positive.abs()


class Hardest:
    """The k best candidates within bounds of each of Q queries, of all blocks so far.

    Args:
        rows: the queries' rows in the table of all vectors that `add` gets (Q,).
        bounds: which scores they may have.
        barred: pairs (P,), (P,) of a query, 0 to Q - 1 and ascending, and the place of a candidate
            that does not compete for it.
        k: how many are kept of each query (>= 1).
    """

    def __init__(self, rows: Tensor, bounds: Bounds, barred: tuple[Tensor, Tensor], k: int) -> None:
        self._rows, self._bounds, self._barred, self._k = rows, bounds, barred, k
        # Places of minus infinity mean nothing.
        self.scores = torch.full((len(rows), k), -torch.inf)
        self.places = torch.zeros(len(rows), k, dtype=torch.long)
        self.others = torch.zeros(len(rows), dtype=torch.long)
        """Candidates that compete for each query (Q,)."""
        self.above = torch.zeros(len(rows), dtype=torch.long)
        """Those of them that score above the margin (Q,)."""

    def add(self, queries: Tensor, places: Tensor, vectors: Tensor) -> None:
        """Take in a block of candidates.

        Args:
            queries: the table of all queries' unit vectors.
            places: the candidates' places, ascending (B,).
            vectors: their unit vectors, where to multiply (B, D).
        """
        if not len(places):
            return
        asked, columns = self._barred_among(places)
        for start in range(0, len(self._rows), _QUERIES):
            part = slice(start, start + _QUERIES)
            block = queries[self._rows[part]].to(vectors.device, vectors.dtype)
            scores = block @ vectors.T
            own = slice(*torch.searchsorted(asked, torch.tensor([part.start, part.stop])).tolist())
            pairs = (asked[own] - start).to(scores.device), columns[own].to(scores.device)
            scores[pairs] = -torch.inf
            above = scores > self._bounds.margins[part, None].to(scores.device)
            self.others[part] += (scores > -torch.inf).sum(dim=1).cpu()
            self.above[part] += above.sum(dim=1).cpu()
            outside = (scores > self._bounds.highest) | (scores < self._bounds.lowest)
            scores[above | outside] = -torch.inf
            best, where = top(scores, min(self._k, len(places)))
            self._merge(part, best.cpu(), places[where.cpu()])

    def ranked(self, query: int) -> list[tuple[float, int]]:
        """Return the scores and places of a query's best candidates, the highest first."""
        pairs = zip(self.scores[query].tolist(), self.places[query].tolist(), strict=True)
        return [(score, place) for score, place in pairs if score > -torch.inf]

    def share(self, processes: Processes) -> None:
        """Put together what the processes found, each in blocks of its own."""
        processes.total(self.others, self.above)
        for start in range(0, len(self._rows), _EXCHANGED):
            part = slice(start, start + _EXCHANGED)
            found = processes.gather((self.scores[part].clone(), self.places[part].clone()))
            for number, (scores, places) in enumerate(found):
                if number != processes.place:
                    self._merge(part, scores, places)

    def _merge(self, part: slice, scores: Tensor, places: Tensor) -> None:
        before = self.scores[part], self.places[part]
        self.scores[part], self.places[part] = merged(before, (scores, places), self._k)

    def _barred_among(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the barred pairs of a block, as queries and columns."""
        asked, barred = self._barred
        column = torch.searchsorted(places, barred).clamp_(max=len(places) - 1)
        here = places[column] == barred
        return asked[here], column[here]
