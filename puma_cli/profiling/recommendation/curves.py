"""What the ways to cut come to at every depth, the better of them, and the knee of a curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from puma_cli.profiling.retrieval.retention import Retention

T = TypeVar("T")


@dataclass(frozen=True)
class Curves:
    """What one way to cut comes to at depths 0 to L.

    Args:
        untrained: its score as it is, (L + 1,), each in [0, 1].
        bridged: its score with its bridge, likewise, or None without bridges.
        predicted: what it is predicted to keep once trained, or None without a prediction.
    """

    untrained: Sequence[float]
    bridged: Sequence[float] | None = None
    predicted: Retention | None = None

    @property
    def read(self) -> Sequence[float]:
        """The score that shows most of what is there."""
        return self.untrained if self.bridged is None else self.bridged


class Best:
    """At each depth the better of two cuts: the first k layers, unless the other is clearly better.

    Args:
        first: the cuts to the first k layers.
        keep_last: the cuts to the first k - 1 and the last, or None.
        noise: a lead within it is none (>= 0).

    Attributes:
        keeps_last: at which depths it is the one that keeps the last layer, (L + 1,).
        plain, bridged, predicted: its curves, as in `Curves`.
        untrained, untrained_keeps_last: the score of whichever is better without training, and
            which that is.
    """

    def __init__(self, first: Curves, keep_last: Curves | None, noise: float) -> None:
        self.first = first
        self.depth = len(first.untrained) - 1
        if keep_last is not None and (keep_last.bridged is None) != (first.bridged is None):
            # Of two layers there is no such cut to bridge; unlike readings cannot be compared.
            keep_last = None
        other = first if keep_last is None else keep_last
        self.keeps_last = self._leads(first.read, other.read, noise)
        self.plain = _pick(self.keeps_last, first.untrained, other.untrained)
        # What needs no training is another question than what trains best.
        self.untrained_keeps_last = self._leads(first.untrained, other.untrained, noise)
        self.untrained = _pick(self.untrained_keeps_last, first.untrained, other.untrained)
        self.bridged: Sequence[float] | None = None
        self.predicted: Retention | None = None
        if first.bridged is not None and other.bridged is not None:
            self.bridged = _pick(self.keeps_last, first.bridged, other.bridged)
        if first.predicted is not None and other.predicted is not None:
            one, two = first.predicted, other.predicted
            self.predicted = Retention(
                share=_pick(self.keeps_last, one.share, two.share),
                low=_pick(self.keeps_last, one.low, two.low),
                high=_pick(self.keeps_last, one.high, two.high),
            )

    @property
    def read(self) -> Sequence[float]:
        """The score that shows most of what is there, (L + 1,)."""
        return self.plain if self.bridged is None else self.bridged

    @property
    def full(self) -> float:
        """The full model's score."""
        return self.first.untrained[-1]

    @property
    def kept(self) -> Sequence[float | None]:
        """The share that each depth is predicted to keep, (L + 1,)."""
        return (None,) * (self.depth + 1) if self.predicted is None else self.predicted.share

    @property
    def kept_at_least(self) -> Sequence[float | None]:
        """The lower ends of the intervals of `kept`."""
        return (None,) * (self.depth + 1) if self.predicted is None else self.predicted.low

    def _leads(
        self, first: Sequence[float], other: Sequence[float], noise: float
    ) -> tuple[bool, ...]:
        # The last layer alone is no cut, and at L the two are one.
        return tuple(
            1 < k < self.depth and other[k] > first[k] + noise for k in range(self.depth + 1)
        )


def _pick(others: Sequence[bool], first: Sequence[T], other: Sequence[T]) -> tuple[T, ...]:
    return tuple(b if is_other else a for a, b, is_other in zip(first, other, others, strict=True))


def find_knee(curve: Sequence[float], noise: float = 0.0) -> tuple[int | None, float]:
    """Return the depth farthest above the chord of a curve (L + 1,), and how far above it is.

    Args:
        curve: score at depths 0 to L.
        noise: depths this close to the farthest count as equal; the deepest of them is returned.
    """
    above = heights_above_chord(curve)
    if not above:
        return None, 0.0
    best = max(above.values())
    return max(k for k, height in above.items() if height >= best - noise), best


def heights_above_chord(curve: Sequence[float]) -> dict[int, float]:
    """Return how far each inner depth lies above the straight line between the ends of a curve."""
    depth = len(curve) - 1
    rise = curve[-1] - curve[0]
    return {k: curve[k] - curve[0] - rise * k / depth for k in range(1, depth)}
