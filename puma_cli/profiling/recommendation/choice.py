"""Which depth to cut at, from the read-out at every depth, and why in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from puma_cli.errors import ConfigError

# Where the read-out gives no lead: 12 of 28 layers (PUMA, arXiv 2507.08064).
PAPER_SHARE = 12 / 28


@dataclass(frozen=True)
class Choice:
    """A recommended depth and how it came about.

    Args:
        k: the number of first decoder layers to keep (1 to L).
        rule: `knee`, `untrained` (the aim is met with no training at all), `share` (the read-out
            gives no lead) or `whole` (nothing can be cut).
        reason: why, in sentences for a reader.
        metric: the score the choice looked at.
        retention: the share of the full score (0 to 1] asked of `untrained_k`.
        untrained_k: the smallest depth that keeps this share before any training.
    """

    k: int
    rule: str
    reason: str
    metric: str
    retention: float
    untrained_k: int


def choose(
    curve: Sequence[float],
    *,
    queries: int,
    retention: float = 0.9,
    metric: str = "hit@1",
    bridged: Sequence[float] | None = None,
) -> Choice:
    """Recommend a depth from the read-out at every depth, through bridges where there are any.

    A bridge shows what is linearly there for training to bring out, so the knee is looked for on
    that curve; whether a cut needs training at all is a question to the untrained one.

    The knee is the depth whose score lies farthest above the straight line from depth 0 to the full
    model (as in Kneedle, Satopaa et al. 2011), which weighs a point of score against the layers it
    costs. Depths within one standard error of the best count as equal, and the deepest of them is
    taken: a layer too many costs 1/L of the time, a layer too few may cost the quality.

    Args:
        curve: score of the untrained cut at depths 0 to L, (L + 1,), each in [0, 1].
        bridged: score of the cut with its bridge, likewise, or None without bridges.
        queries: number of queries behind each score (>= 1).
        retention: the share of the full model's score (0 to 1] that `untrained_k` must keep.
        metric: name of the score.

    Raises:
        ConfigError: an illegal retention.
    """
    check_retention(retention)
    depth, full = len(curve) - 1, curve[-1]
    untrained = next(k for k in range(1, depth + 1) if curve[k] >= retention * full)
    read = curve if bridged is None else bridged
    made = _Maker(curve, read, metric, retention, untrained)
    if depth == 1:
        return made.choice(1, "whole", "The model has one decoder layer: nothing can be cut.")
    noise = math.sqrt(max(full * (1.0 - full), 1.0 / queries) / queries)
    if full - curve[0] <= 3.0 * noise:
        return made.share(
            f"The full model itself is near chance on this data ({made.name} {_points(full)}), "
            "so no depth can be told from another."
        )
    knee, height = find_knee(read, noise)
    if untrained <= (knee or depth - 1):
        return made.choice(untrained, "untrained", made.untrained_reason())
    if knee is None or height <= noise:
        return made.share(
            "No inner depth reads out better than a straight line from nothing to the full model, "
            "as is common for models tuned at their last layer; that says little about what "
            "training recovers."
        )
    return made.choice(knee, "knee", made.knee_reason(knee))


def check_retention(retention: float) -> None:
    """Raise ConfigError unless `retention` is a share in (0, 1]."""
    if not 0.0 < retention <= 1.0:
        raise ConfigError(
            f"retention is {retention}, which is no share.", hint="Give a number above 0, up to 1."
        )


def find_knee(curve: Sequence[float], noise: float = 0.0) -> tuple[int | None, float]:
    """Return the depth farthest above the chord of a curve (L + 1,), and how far above it is.

    Args:
        curve: score at depths 0 to L.
        noise: depths this close to the farthest count as equal; the deepest of them is returned.
    """
    depth = len(curve) - 1
    rise = curve[-1] - curve[0]
    above = {k: curve[k] - curve[0] - rise * k / depth for k in range(1, depth)}
    if not above:
        return None, 0.0
    best = max(above.values())
    return max(k for k, height in above.items() if height >= best - noise), best


@dataclass(frozen=True)
class _Maker:
    """Puts choices over one curve into words."""

    curve: Sequence[float]
    read: Sequence[float]
    metric: str
    retention: float
    untrained: int

    @property
    def name(self) -> str:
        return f"mean {self.metric}"

    def choice(self, k: int, rule: str, reason: str) -> Choice:
        return Choice(k, rule, reason, self.metric, self.retention, self.untrained)

    def share(self, why: str) -> Choice:
        depth = len(self.curve) - 1
        k = min(depth - 1, max(1, round(PAPER_SHARE * depth)))
        return self.choice(
            k, "share", f"{why} The published share of layers, 12 of 28, gives k = {k} of {depth}."
        )

    def knee_reason(self, k: int) -> str:
        depth, full, here = len(self.read) - 1, self.read[-1], self.read[k]
        first, rest = (here - self.read[0]) / k, (full - here) / (depth - k)
        through = self.read is not self.curve
        text = (
            f"{'Read through a linear head, the' if through else 'The'} first {k} layers add "
            f"{_points(first)} points of {self.name} each, the other {depth - k} only "
            f"{_points(rest)}. Cut there and {'given that head' if through else 'left untrained'}, "
            f"the model reads out {_points(here)} of {_points(full)}, {here / full:.0%} of the "
            "full model's score. This underestimates the cut: distillation recovers a part that "
            f"no {'linear map' if through else 'untrained read-out'} shows."
        )
        if self.untrained == depth:
            return f"{text} Without training no smaller depth keeps {self.retention:.0%}."
        return f"{text} Without training, {self.retention:.0%} takes k = {self.untrained}."

    def untrained_reason(self) -> str:
        k, full = self.untrained, self.curve[-1]
        return (
            f"At k = {k} the model keeps {self.curve[k] / full:.0%} of its {self.name} "
            f"({_points(self.curve[k])} of {_points(full)}) before any training, which meets the "
            f"aim of {self.retention:.0%}; distillation comes on top."
        )


def _points(share: float) -> str:
    return f"{100.0 * share:.1f}"
