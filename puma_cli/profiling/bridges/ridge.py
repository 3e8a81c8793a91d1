"""Ridge regression from one pass over the rows: moments first, then every strength at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from puma_cli.errors import NumericError
from puma_cli.processes import Processes

# Strengths are relative to the mean eigenvalue of the inputs' covariance; two a decade.
WEAKEST, STRONGEST = -6.0, 2.0
_STEP = 0.5
# Beyond these, the map is the unpenalised one, or a constant, to the last digit.
_LOWEST, _HIGHEST = -14.0, 8.0


class Moments:
    """What a ridge regression needs to know of its rows: count, means and centred second moments.

    Rows are added in batches and forgotten. Means and scatters are combined exactly (Chan, Golub
    and LeVeque 1979) rather than as raw sums, which would lose the small spread of an input with a
    large mean. Takes D^2 + D * D_t doubles.

    Args:
        inputs: number of inputs D (>= 1).
        outputs: number of outputs D_t (>= 1).
        device: where to compute; it needs float64, which MPS has not.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device | str = "cpu") -> None:
        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.float64, device=device)

        self.rows = 0
        self.mean_x, self.mean_y = zeros(inputs), zeros(outputs)
        self.xx, self.xy = zeros(inputs, inputs), zeros(inputs, outputs)
        self.yy = zeros()

    @torch.no_grad()
    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in the rows x (B, D) and y (B, D_t), of any dtype.

        Raises:
            NumericError: a number is not finite.
        """
        if not len(x):
            return
        x, y = x.to(self.xx), y.to(self.xx)
        for name, values in (("inputs", x), ("targets", y)):
            if not values.isfinite().all():
                raise _not_finite(f"{name} hold a number that is not finite.")
        mean_x, mean_y = x.mean(0), y.mean(0)
        x, y = x - mean_x, y - mean_y
        self._combine(len(x), mean_x, mean_y, x.T @ x, x.T @ y, y.square().sum())

    def merge(self, other: Moments) -> None:
        """Take in all rows of `other`, which stays as it is."""
        if other.rows:
            self._combine(other.rows, other.mean_x, other.mean_y, other.xx, other.xy, other.yy)

    def share(self, processes: Processes) -> None:
        """Take in the rows that the other processes added to theirs."""
        if processes.count == 1:
            return
        total = sum(processes.gather(self.rows))
        mean_x, mean_y = self.mean_x.clone(), self.mean_y.clone()
        for mean in (mean_x, mean_y):
            mean.mul_(self.rows / total)
            processes.total(mean)
        # About the common mean, the scatters simply add up.
        step_x, step_y = self.mean_x - mean_x, self.mean_y - mean_y
        self.xx.addr_(step_x, step_x, alpha=self.rows)
        self.xy.addr_(step_x, step_y, alpha=self.rows)
        self.yy.add_(step_y.square().sum(), alpha=self.rows)
        processes.total(self.xx, self.xy, self.yy)
        self.mean_x, self.mean_y, self.rows = mean_x, mean_y, total

    def _combine(
        self, rows: int, mean_x: Tensor, mean_y: Tensor, xx: Tensor, xy: Tensor, yy: Tensor
    ) -> None:
        total = self.rows + rows
        step_x, step_y = mean_x - self.mean_x, mean_y - self.mean_y
        between = self.rows * rows / total
        self.xx.add_(xx).addr_(step_x, step_x, alpha=between)
        self.xy.add_(xy).addr_(step_x, step_y, alpha=between)
        self.yy.add_(yy).add_(step_y.square().sum(), alpha=between)
        self.mean_x.add_(step_x, alpha=rows / total)
        self.mean_y.add_(step_y, alpha=rows / total)
        self.rows = total


@dataclass(frozen=True)
class AffineMap:
    """The map x -> x @ weight + bias, in float64.

    Args:
        weight: (D, D_t).
        bias: (D_t,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the images of the rows x (B, D), float64 (B, D_t)."""
        return x.to(self.weight) @ self.weight + self.bias

    def mean_square(self, moments: Moments) -> float:
        """Return E||x @ weight + bias||^2 over the rows of `moments` (>= 1)."""
        spread = (self.weight * (moments.xx @ self.weight)).sum() / moments.rows
        return float(spread + (moments.mean_x @ self.weight + self.bias).square().sum())

    def error(self, moments: Moments) -> float:
        """Return E||y - x @ weight - bias||^2 over the rows of `moments` (>= 1)."""
        fitted = (self.weight * (moments.xx @ self.weight)).sum()
        crossed = (self.weight * moments.xy).sum()
        offset = moments.mean_y - moments.mean_x @ self.weight - self.bias
        spread = (moments.yy - 2.0 * crossed + fitted) / moments.rows
        return float((spread + offset.square().sum()).clamp(min=0.0))


class Ridge:
    """All ridge regressions over the same rows: one eigendecomposition serves every strength.

    The map of strength s minimises E||y - x W - b||^2 + s * m * ||W||^2, where m is the mean
    eigenvalue of the inputs' covariance. The bias carries no penalty. So the map is the same if
    rows are repeated, if inputs are shifted or scaled as a whole, and in any rotated basis.

    Args:
        moments: at least one row.

    Raises:
        NumericError: the rows are so large that their squares are not finite.
    """

    def __init__(self, moments: Moments) -> None:
        if not (moments.xx.isfinite().all() and moments.xy.isfinite().all()):
            raise _not_finite("squares are too large for float64.")
        self._moments = moments
        values, self._basis = torch.linalg.eigh(moments.xx / moments.rows)
        # Rounding leaves tiny negative eigenvalues where the inputs have no spread.
        self._values = values.clamp(min=0.0)
        self._crossed = self._basis.T @ moments.xy / moments.rows

    def _gains(self, strength: float) -> Tensor:
        size, largest = len(self._values), float(self._values[-1])
        # Directions without spread say nothing; unpenalised, they would be divided by nothing.
        floor = size * torch.finfo(torch.float64).eps * largest
        shifted = self._values + strength * self._values.mean()
        return torch.where(shifted > floor, 1.0 / shifted, 0.0)

    def fit(self, strength: float) -> AffineMap:
        """Return the map of one strength (>= 0); 0 is least squares, of least norm if many fit."""
        weight = self._basis @ (self._gains(strength)[:, None] * self._crossed)
        return AffineMap(weight, self._moments.mean_y - self._moments.mean_x @ weight)

    def errors(self, held_out: Moments, strengths: Sequence[float]) -> list[float]:
        """Return E||y - f(x)||^2 of each strength's map over other rows (>= 1), from their moments.

        O(D^2) a strength after one O(D^3) change of basis.
        """
        rows = held_out.rows
        fitted = self._basis.T @ held_out.xx @ self._basis
        fitted = fitted * (self._crossed @ self._crossed.T)
        crossed = (self._crossed * (self._basis.T @ held_out.xy)).sum(1)
        # The bias sends the fitted mean to the fitted mean: only the rest counts.
        step_x = (held_out.mean_x - self._moments.mean_x) @ self._basis
        step_y = held_out.mean_y - self._moments.mean_y
        errors = []
        for strength in strengths:
            gains = self._gains(strength)
            spread = (held_out.yy - 2.0 * gains @ crossed + gains @ fitted @ gains) / rows
            offset = step_y - (step_x * gains) @ self._crossed
            errors.append(float((spread + offset.square().sum()).clamp(min=0.0)))
        return errors


def choose_strength(ridge: Ridge, held_out: Moments) -> tuple[float, float]:
    """Return the strength with the least held-out error, and that error.

    Tries a logarithmic grid, and goes on beyond the end that turns out best; of equals the
    strongest wins.

    Raises:
        NumericError: the errors are not finite.
    """
    low, high = WEAKEST, STRONGEST
    found: dict[float, float] = {}
    while True:
        count = round((high - low) / _STEP) + 1
        powers = [high - _STEP * place for place in range(count)]
        new = [power for power in powers if power not in found]
        found.update(zip(new, ridge.errors(held_out, [10.0**p for p in new]), strict=True))
        best = min(powers, key=lambda power: (found[power], -power))
        if not all(map(math.isfinite, found.values())):
            raise _not_finite("held-out errors are not finite.")
        if best == low and low > _LOWEST:
            low -= 2.0
        elif best == high and high < _HIGHEST:
            high += 2.0
        else:
            return 10.0**best, found[best]


def _not_finite(what: str) -> NumericError:
    return NumericError(
        f"The regression's {what}",
        cause="The model gives embeddings with NaN, infinite or absurdly large entries.",
        hint="Load it with --dtype float32.",
    )
