"""The similarities of one group of inputs, added up batch by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from puma_cli.errors import NumericError
from puma_cli.profiling.similarity.cka import FEWEST_ROWS, unbiased_cka
from puma_cli.profiling.similarity.measures import (
    CONSTANT,
    Grid,
    LayerSimilarity,
    PartialGrid,
    angle_of,
    check_states,
    pairwise_cosines,
    widen,
)

TEMPORARY_BYTES = 64 << 20


class SimilarityAccumulator:
    """Adds up the similarities of one group of inputs, in memory O(L D + L^2) and the kept rows.

    Args:
        side: `query` or `candidate`.
        modality: `text`, `image` or `image,text`.
        depth: number of decoder layers L (>= 1).
        place: `embed` or `tokens`, where in the input the states stand.
        removed: indices of the dimensions to leave out of the trimmed cosine; by default none, and
            it is the plain one.
    """

    def __init__(
        self,
        side: str,
        modality: str,
        depth: int,
        place: str = "embed",
        removed: Tensor | None = None,
    ) -> None:
        self.side, self.modality, self.depth, self.place = side, modality, depth, place
        self.excluded = 0
        self._removed = removed
        self._cosines = torch.zeros(depth + 1, depth + 1, dtype=torch.float64)
        self._angles = torch.zeros_like(self._cosines)
        self._trimmed = torch.zeros_like(self._cosines)
        self._spread = Spread()
        self._kept: list[Tensor] = []

    @property
    def count(self) -> int:
        """Rows added so far."""
        return self._spread.count

    @torch.no_grad()
    def add(self, states: Tensor, kept: Tensor | None = None) -> None:
        """Take the residual stream of a batch of rows, one for each input or token.

        Args:
            states: (L + 1, B, D), before the final norm, index k = after k layers.
            kept: (B,) of bool, the rows to keep for CKA, as float32 on the CPU; by default none.

        Raises:
            NumericError: a layer's output is not finite, or has no direction; nothing was added.
        """
        if not states.shape[1]:
            return
        check_states(states, f"{self.side}, {self.modality}")
        if kept is not None:
            self._kept.append(states[:, kept.to(states.device)].to("cpu", torch.float32))
        for part in states.split(rows_at_once(len(states), states.shape[2]), dim=1):
            self._add(widen(part))

    def _add(self, wide: Tensor) -> None:
        cosines, energy = pairwise_cosines(wide)
        self._cosines = self._cosines.to(wide.device) + cosines.sum(0)
        self._angles = self._angles.to(wide.device) + angle_of(cosines).sum(0)
        if self._removed is not None:
            cosines, _ = pairwise_cosines(wide.index_fill(2, self._removed.to(wide.device), 0.0))
            # NaN of a vector without length stays in the sum, and marks the entry as undefined.
            self._trimmed = self._trimmed.to(wide.device) + cosines.sum(0)
        del cosines
        self._spread.add(wide, energy.sum(0))

    def merge(self, other: SimilarityAccumulator) -> None:
        """Take in everything that was added to `other`, of the same group."""
        for name in ("_cosines", "_angles", "_trimmed"):
            ours = getattr(self, name)
            setattr(self, name, ours + getattr(other, name).to(ours.device))
        self._spread.merge(other._spread)
        self._kept += other._kept
        self.excluded += other.excluded

    def cpu(self) -> SimilarityAccumulator:
        """Move all sums to the CPU, and return the accumulator itself."""
        for name in ("_cosines", "_angles", "_trimmed"):
            setattr(self, name, getattr(self, name).cpu())
        self._spread.cpu()
        return self

    def exclude(self, count: int) -> None:
        """Note that so many rows (>= 0) were left out as attention sinks."""
        self.excluded += count

    def result(self) -> LayerSimilarity:
        """Return the averages over everything added.

        Raises:
            NumericError: nothing was added.
        """
        if not self.count:
            raise NumericError(
                f"No {self.side} of modality '{self.modality}' was measured ({self.place}).",
                cause=f"All {self.excluded} rows are attention sinks." if self.excluded else "",
            )
        cosines = self._cosines / self.count
        trimmed = cosines if self._removed is None else self._trimmed / self.count
        return LayerSimilarity(
            side=self.side,
            modality=self.modality,
            place=self.place,
            count=self.count,
            excluded=self.excluded,
            cosine_grid=_triangle(cosines),
            angular_grid=_triangle(self._angles / self.count),
            centred_grid=_known(_triangle(self._spread.cosines())),
            trimmed_grid=_known(_triangle(trimmed)),
            cka=self._cka(),
        )

    def _cka(self) -> PartialGrid | None:
        if sum(part.shape[1] for part in self._kept) < FEWEST_ROWS:
            return None
        # One tensor in place of the parts, so that asking twice takes no more memory.
        self._kept = [torch.cat(self._kept, dim=1)]
        return _known(unbiased_cka(self._kept[0], self._cosines.device).tolist())


class Spread:
    """Second moments about the mean over the rows, of every two depths, merged batch by batch.

    Merged pairwise (Chan, Golub and LeVeque 1979): plain sums of squares would cancel where a
    constant direction dominates, which is the case the centred cosine is for.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = torch.zeros((), dtype=torch.float64)
        self._scatter, self._energy = self._mean.clone(), self._mean.clone()

    def add(self, wide: Tensor, energy: Tensor) -> None:
        """Take the rows `wide` (L + 1, B, D), and their sums of squares `energy` (L + 1,)."""
        mean = wide.mean(1)
        rest = (wide - mean[:, None]).flatten(1)
        self._combine(wide.shape[1], mean, rest @ rest.T, energy)

    def merge(self, other: Spread) -> None:
        """Take in all rows of `other`."""
        if other.count:
            self._combine(other.count, other._mean, other._scatter, other._energy)

    def cpu(self) -> None:
        """Move all sums to the CPU."""
        self._mean, self._scatter = self._mean.cpu(), self._scatter.cpu()
        self._energy = self._energy.cpu()

    def _combine(self, size: int, mean: Tensor, scatter: Tensor, energy: Tensor) -> None:
        total = self.count + size
        step = mean - self._mean.to(mean.device)
        between = self.count * size / total * (step @ step.T)
        self._scatter = self._scatter.to(mean.device) + scatter + between
        self._energy = self._energy.to(mean.device) + energy
        self._mean = self._mean.to(mean.device) + step * (size / total)
        self.count = total

    def cosines(self) -> Tensor:
        """Return pooled cosines about the mean, (L + 1, L + 1), NaN where a depth is constant."""
        own = self._scatter.diagonal()
        length = torch.where(own > CONSTANT * self._energy, own, math.nan).sqrt()
        return (self._scatter / length[:, None] / length).clamp(-1.0, 1.0)


def rows_at_once(depths: int, width: int) -> int:
    """Return how many rows of (L + 1, D) can be measured in `TEMPORARY_BYTES`, or 1.

    A row takes its states in float64, one altered copy of them, and some (L + 1, L + 1) matrices.
    """
    return max(1, TEMPORARY_BYTES // (8 * depths * (3 * width + 6 * depths)))


def _triangle(matrix: Tensor) -> Grid:
    rows = matrix.tolist()
    return tuple(tuple(row[start + 1 :]) for start, row in enumerate(rows[:-1]))


def _known(rows: Sequence[Sequence[float]]) -> PartialGrid:
    return tuple(tuple(None if math.isnan(value) else value for value in row) for row in rows)
