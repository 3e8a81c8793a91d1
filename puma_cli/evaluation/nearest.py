"""The k best candidates of each query, found while blocks of rounded scores pass by.

A matrix product rounds a score differently from block to block. It therefore only rules out: what
is left within its error is scored again pair by pair, so that the result is that of an exact search
with ties by place, whatever the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from puma_cli.encoding.vectors import Vectors
from puma_cli.evaluation.scanning import Block, pair_scores
from puma_cli.evaluation.top import Best, top

_GROUP = 64
_SLACK = 128


@dataclass(frozen=True)
class _Entries:
    """Pairs of a query and a candidate that may be among the best (P,).

    Args:
        sure: whether a score is that of the pair, or only within the error of it.
    """

    rows: Tensor
    places: Tensor
    scores: Tensor
    sure: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, which: Tensor) -> _Entries:
        return _Entries(self.rows[which], self.places[which], self.scores[which], self.sure[which])


class Nearest:
    """The k best of all candidates for some queries.

    Args:
        queries: (q, D) fp32, where the blocks are.
        candidates: all candidates, to score pairs again.
        k: how many of each query (1 to the number of candidates).
    """

    def __init__(self, queries: Tensor, candidates: Vectors, k: int) -> None:
        self._queries, self._candidates, self._k = queries, candidates, k
        place = queries.device
        self._floor = torch.full((len(queries), 1), -torch.inf, device=place)
        empty = torch.empty(0, dtype=torch.long, device=place)
        nothing = torch.empty(0, device=place)
        self._kept = _Entries(empty, empty, nothing, empty.bool())
        self._fresh: list[_Entries] = []
        self._waiting = 0
        self._last: Block | None = None
        self.crowded = False
        """Whether so much lay within the error that more exact blocks would have been cheaper."""

    def see(self, block: Block) -> None:
        """Take in the scores of a block; it is left as it was."""
        if self._last is not None and self._last.relative > block.relative:
            # What rougher blocks left is not to be judged by the error of finer ones.
            self._settle()
            self._kept = self._made_sure(self._kept)
        self._last = block
        limit = len(self._queries) * self._k
        highest = _highest(block.scores)
        passing = int((highest >= self._floor).sum())
        # So many pass at the start, or where a pool is sorted against the queries.
        if 2 * passing >= highest.numel() and block.scores.shape[1] >= self._k:
            worst = block.scores.topk(self._k, dim=1, sorted=False).values.amin(1, True).float()
            self._raise_floor(worst)
        found = self._above(block, highest)
        if len(found) > limit:
            found = self._thinned(block, found)
        self._fresh.append(found)
        self._waiting += len(found)
        if self._waiting > limit:
            self._settle()

    def best(self) -> Best:
        """Return the scores (q, k), descending, and the places (q, k) of the best, on the CPU."""
        self._settle()
        kept = self._first_k(self._made_sure(self._kept))
        shape = len(self._queries), self._k
        return kept.scores.view(shape).cpu(), kept.places.view(shape).cpu()

    def _above(self, block: Block, highest: Tensor) -> _Entries:
        """Return the pairs of a block that are not below the floors."""
        scores = block.scores
        whole = scores.shape[1] // _GROUP * _GROUP
        groups = scores[:, :whole].unflatten(1, (-1, _GROUP))
        rows, group = (highest >= self._floor).nonzero(as_tuple=True)
        which, inside = (groups[rows, group] >= self._floor[rows]).nonzero(as_tuple=True)
        rows, columns = rows[which], group[which] * _GROUP + inside
        if whole < scores.shape[1]:
            rest_rows, rest = (scores[:, whole:] >= self._floor).nonzero(as_tuple=True)
            rows, columns = torch.cat([rows, rest_rows]), torch.cat([columns, rest + whole])
        found = scores[rows, columns]
        return _Entries(
            rows, columns + block.first, found, torch.zeros_like(rows, dtype=torch.bool)
        )

    def _thinned(self, block: Block, found: _Entries) -> _Entries:
        """Cut rows in which more than can be kept lie within the error, as in a collapsed model."""
        many = self._counts(found) > 2 * self._k + _SLACK
        if not many.any():
            return found
        self.crowded = True
        crowded = many.nonzero()[:, 0]
        # Rounded from fp64, equal vectors have equal scores in a product of matrices too.
        exact = (self._queries[crowded].double() @ block.vectors.double().T).float()
        scores, columns = top(exact, min(self._k, exact.shape[1]))
        rows = crowded[:, None].expand_as(columns).flatten()
        cut = _Entries(
            rows,
            columns.flatten() + block.first,
            scores.flatten(),
            torch.ones_like(rows, dtype=torch.bool),
        )
        return _joined([found.at(~many[found.rows]), cut])

    def _settle(self) -> None:
        """Drop what cannot be among the best any more, and raise the floors."""
        entries = _by_row(_joined([self._kept, *self._fresh]))
        self._raise_floor(self._worst(entries))
        entries = entries.at(entries.scores >= self._floor[entries.rows, 0])
        many = self._counts(entries) > 2 * self._k + _SLACK
        if many.any():
            self.crowded = True
            crowded = many[entries.rows]
            cut = self._made_sure(entries.at(crowded))
            entries = _joined([entries.at(~crowded), self._first_k(cut)])
        self._kept, self._fresh, self._waiting = entries, [], 0

    def _raise_floor(self, worst: Tensor) -> None:
        """Raise the floors to what the k-th scores (q, 1), or better ones, are still worth."""
        assert self._last is not None
        # The k-th may be rounded up, and what is held against it rounded down.
        floor = self._last.lowered(self._last.lowered(worst))
        self._floor = torch.fmax(self._floor, floor)

    def _counts(self, entries: _Entries) -> Tensor:
        return torch.bincount(entries.rows, minlength=len(self._queries))

    def _worst(self, ordered: _Entries) -> Tensor:
        """Return the k-th score of each query, or minus infinity where there are fewer (q, 1)."""
        counts = self._counts(ordered)
        at = counts.cumsum(0) - counts + self._k - 1
        worst = torch.full_like(self._floor, -torch.inf)
        enough = counts >= self._k
        worst[enough, 0] = ordered.scores[at[enough]]
        return worst

    def _made_sure(self, entries: _Entries) -> _Entries:
        """Return entries with the scores of those that are not sure computed pair by pair."""
        which = ~entries.sure
        rows, places = entries.rows[which], entries.places[which]
        scores = entries.scores.clone()
        scores[which] = pair_scores(self._queries, self._candidates, rows, places).to(scores.device)
        return _Entries(entries.rows, entries.places, scores, torch.ones_like(entries.sure))

    def _first_k(self, entries: _Entries) -> _Entries:
        """Return the k best of each query in order, equal scores by place."""
        entries = _by_row(entries.at(entries.places.argsort(stable=True)))
        counts = self._counts(entries)
        number = torch.arange(len(entries), device=entries.rows.device)
        return entries.at(number - (counts.cumsum(0) - counts)[entries.rows] < self._k)


def _highest(scores: Tensor) -> Tensor:
    """Return the highest of every whole group of neighbouring scores (q, n) of a row (q, g).

    Nearly all groups lie below what is wanted, and this tells so many times faster than a mask.
    """
    whole = scores.shape[1] // _GROUP * _GROUP
    return scores[:, :whole].unflatten(1, (-1, _GROUP)).amax(dim=2)


def _by_row(entries: _Entries) -> _Entries:
    """Return entries by query and then by descending score; equal ones keep their order."""
    entries = entries.at(entries.scores.argsort(descending=True, stable=True))
    return entries.at(entries.rows.argsort(stable=True))


def _joined(parts: list[_Entries]) -> _Entries:
    return _Entries(
        torch.cat([part.rows for part in parts]),
        torch.cat([part.places for part in parts]),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.sure for part in parts]),
    )
