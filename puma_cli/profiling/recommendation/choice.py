"""Which depth to cut at, from what is read out and predicted at every depth, in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from puma_cli.errors import ConfigError
from puma_cli.profiling.cost.depth_cost import DepthCost
from puma_cli.profiling.recommendation.aims import NO_AIMS, Aims
from puma_cli.profiling.retrieval.retention import Retention
from puma_cli.report.numbers import count

# Where the read-out gives no lead: 12 of 28 layers (PUMA, arXiv 2507.08064).
PAPER_SHARE = 12 / 28
# What counts as good without training, unless an aim says otherwise.
GOOD = 0.9


@dataclass(frozen=True)
class Choice:
    """A recommended depth and how it came about.

    Args:
        k: the number of first decoder layers to keep (1 to L).
        rule: `target` (the smallest predicted to keep the share asked for), `budget` (the most
            that may be spent), `knee`, `untrained` (good with no training at all), `share` (the
            read-out gives no lead) or `whole` (nothing can be cut).
        reason: why, in sentences for a reader.
        metric: the score the choice looked at.
        retention: the share of the full score (0 to 1] asked of `untrained_k`.
        untrained_k: the smallest depth that keeps this share before any training.
        runner_up: the next best depth, or None where none suggests itself.
        runner_up_reason: what speaks for and against it, in a sentence.
    """

    k: int
    rule: str
    reason: str
    metric: str
    retention: float
    untrained_k: int
    runner_up: int | None = None
    runner_up_reason: str = ""


def choose(
    curve: Sequence[float],
    *,
    queries: int,
    aims: Aims = NO_AIMS,
    costs: Sequence[DepthCost] = (),
    predicted: Retention | None = None,
    metric: str = "hit@1",
    bridged: Sequence[float] | None = None,
) -> Choice:
    """Recommend a depth: by the aims, or else by the knee of the read-out.

    Asked for a share of the full score, it is the smallest depth whose trained student is predicted
    to keep it; with a bound on the cost alone, the deepest within it. Without either, it is the
    knee, read through bridges where there are any: a bridge shows what is linearly there for
    training to bring out, while whether a cut needs training at all is a question to the untrained
    curve.

    The knee is the depth whose score lies farthest above the straight line from depth 0 to the full
    model (as in Kneedle, Satopaa et al. 2011), which weighs a point of score against the layers it
    costs. Depths within one standard error of the best count as equal, and the deepest of them is
    taken: a layer too many costs 1/L of the time, a layer too few may cost the quality.

    Args:
        curve: score of the untrained cut at depths 0 to L, (L + 1,), each in [0, 1].
        queries: number of queries behind each score (>= 1).
        aims: what is asked of the cut.
        costs: what the cut to k layers costs, k = 1 to L; only bounds look at them.
        predicted: what the trained cut is predicted to keep, or None without a prediction.
        metric: name of the score.
        bridged: score of the cut with its bridge, (L + 1,), or None without bridges.

    Raises:
        ConfigError: an illegal retention.
    """
    good = GOOD if aims.retention is None else aims.retention
    check_retention(good)
    depth, full = len(curve) - 1, curve[-1]
    deepest = aims.affordable(costs) if aims.bounded else depth
    untrained = next(k for k in range(1, depth + 1) if curve[k] >= good * full)
    read = curve if bridged is None else bridged
    made = _Maker(curve, read, metric, good, untrained, predicted)
    if depth == 1:
        return made.choice(1, "whole", "The model has one decoder layer: nothing can be cut.")
    noise = math.sqrt(max(full * (1.0 - full), 1.0 / queries) / queries)
    if full - curve[0] <= 3.0 * noise:
        return made.share(
            f"The full model itself is near chance on this data ({made.name} {_points(full)}), "
            "so no depth can be told from another.",
            deepest,
        )
    if deepest == 0:
        return made.too_dear(aims.budget, costs[0])
    if aims.retention is not None:
        if predicted is None:
            return made.at_least(deepest, aims.budget)
        return made.aimed(predicted, deepest, aims.budget)
    if aims.bounded:
        return made.affordable(deepest, aims.budget, find_knee(read, noise)[0])
    knee, height = find_knee(read, noise)
    if untrained <= (knee or depth - 1):
        return made.choice(
            untrained, "untrained", made.untrained_reason(), *made.cheaper(untrained)
        )
    if knee is None or height <= noise:
        return made.share(
            "No inner depth reads out better than a straight line from nothing to the full model, "
            "as is common for models tuned at their last layer; that says little about what "
            "training recovers.",
            deepest,
        )
    return made.choice(knee, "knee", made.knee_reason(knee), *made.other_knee(knee))


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
    predicted: Retention | None

    @property
    def depth(self) -> int:
        return len(self.curve) - 1

    @property
    def name(self) -> str:
        return f"mean {self.metric}"

    def choice(
        self, k: int, rule: str, reason: str, runner_up: int | None = None, why: str = ""
    ) -> Choice:
        return Choice(k, rule, reason, self.metric, self.retention, self.untrained, runner_up, why)

    def share(self, why: str, deepest: int) -> Choice:
        depth = self.depth
        k = max(1, min(depth - 1, deepest, round(PAPER_SHARE * depth)))
        return self.choice(
            k, "share", f"{why} The published share of layers, 12 of 28, gives k = {k} of {depth}."
        )

    def aimed(self, predicted: Retention, deepest: int, budget: str) -> Choice:
        """Return the smallest depth predicted to reach the aim, within the budget."""
        depth = self.depth
        needed = next(k for k in range(1, depth + 1) if (predicted.share[k] or 0) >= self.retention)
        aim = f"{self.retention:.0%}"
        if needed > deepest:
            return self.choice(
                deepest,
                "budget",
                f"k = {deepest} is the most within {budget}. Trained, {self.expected(deepest)}, "
                f"short of the {aim} asked for.",
                needed,
                f"k = {needed} is predicted to reach {aim}, at a higher cost.",
            )
        if needed == depth:
            return self.choice(
                depth,
                "whole",
                f"No cut is predicted to keep {aim} of the full model's {self.name}.",
                *self.cheaper(depth),
            )
        reason = (
            f"k = {needed} is the smallest depth whose trained student is predicted to keep {aim} "
            f"of the full model's {self.name}: {self.expected(needed)}. {self.as_read(needed)}"
        )
        low = predicted.low
        safe = next(k for k in range(1, depth + 1) if (low[k] or 0) >= self.retention)
        if needed < safe <= min(deepest, depth - 1):
            return self.choice(
                needed,
                "target",
                reason,
                safe,
                f"k = {safe} is the cautious choice: {self.expected(safe)}, and the whole interval "
                "reaches the aim.",
            )
        return self.choice(needed, "target", reason, *self.cheaper(needed))

    def at_least(self, deepest: int, budget: str) -> Choice:
        """Return the smallest depth that reaches the aim as it is read out, before training."""
        depth, full = self.depth, self.curve[-1]
        needed = next(k for k in range(1, depth + 1) if self.read[k] >= self.retention * full)
        aim = f"{self.retention:.0%}"
        if needed > deepest:
            return self.choice(
                deepest,
                "budget",
                f"k = {deepest} is the most within {budget}. {self.as_read(deepest)}",
                needed,
                f"k = {needed} reaches {aim} without training, at a higher cost.",
            )
        if needed == depth:
            reason = f"No cut keeps {aim} of the full model's {self.name} without training."
            return self.choice(depth, "whole", reason)
        return self.choice(
            needed,
            "target",
            f"k = {needed} is the smallest depth that keeps {aim} of the full model's {self.name} "
            f"before any training. {self.as_read(needed)} A smaller one may well train back to it: "
            "nothing predicts how far.",
        )

    def affordable(self, deepest: int, budget: str, knee: int | None) -> Choice:
        """Return the deepest cut within the budget."""
        if deepest == self.depth:
            reason = f"The whole model keeps within {budget}: nothing needs to be cut."
            return self.choice(deepest, "whole", reason, *self.cheaper(deepest))
        reason = f"k = {deepest} is the most within {budget}."
        if self.predicted is not None:
            reason += f" Trained, {self.expected(deepest)}."
        reason += f" {self.as_read(deepest)}"
        if knee is not None and knee < deepest:
            why = f"k = {knee} is the knee of the read-out: the layers after it add little each."
            return self.choice(deepest, "budget", reason, knee, why)
        return self.choice(deepest, "budget", reason, *self.cheaper(deepest))

    def too_dear(self, budget: str, cost: DepthCost) -> Choice:
        """Return the smallest cut, where not even that keeps within the budget."""
        return self.choice(
            1,
            "budget",
            f"No cut keeps within {budget}: even with one decoder layer it has "
            f"{count(cost.parameters)} parameters and takes {cost.latency_query:.3g} ms a query.",
        )

    def expected(self, k: int) -> str:
        """Say what the trained cut is predicted to keep."""
        if self.predicted is None or self.predicted.share[k] is None:
            return f"what k = {k} keeps is not predicted"
        kept, low, high = (
            100 * (part[k] or 0.0)
            for part in (self.predicted.share, self.predicted.low, self.predicted.high)
        )
        return f"it is predicted to keep {kept:.0f}% ({low:.0f} to {high:.0f})"

    def as_read(self, k: int) -> str:
        """Say what the cut keeps without training."""
        full = self.curve[-1]
        bridge = (
            ""
            if self.read is self.curve
            else f", and {self.read[k] / full:.0%} through a linear head"
        )
        return f"Untrained it keeps {self.curve[k] / full:.0%}{bridge}."

    def cheaper(self, k: int) -> tuple[int | None, str]:
        """Return the next smaller depth and what it is predicted to keep."""
        if k == 1 or self.predicted is None:
            return None, ""
        expected = self.expected(k - 1).removeprefix("it ")
        return k - 1, f"k = {k - 1} is a layer cheaper and {expected} once trained."

    def other_knee(self, knee: int) -> tuple[int | None, str]:
        """Return the second farthest depth above the chord."""
        depth, rise = self.depth, self.read[-1] - self.read[0]
        above = {
            k: self.read[k] - self.read[0] - rise * k / depth for k in range(1, depth) if k != knee
        }
        if not above:
            return None, ""
        other = max(above, key=lambda k: above[k])
        expected = "" if self.predicted is None else f"; trained, {self.expected(other)}"
        return other, (
            f"k = {other} comes next, {100 * above[other]:.1f} points above the straight line "
            f"where k = {knee} is {self.height(knee)} above it{expected}."
        )

    def height(self, k: int) -> str:
        rise = self.read[-1] - self.read[0]
        return _points(self.read[k] - self.read[0] - rise * k / self.depth)

    def knee_reason(self, k: int) -> str:
        depth, full, here = len(self.read) - 1, self.read[-1], self.read[k]
        first, rest = (here - self.read[0]) / k, (full - here) / (depth - k)
        through = self.read is not self.curve
        text = (
            f"{'Read through a linear head, the' if through else 'The'} first {k} layers add "
            f"{_points(first)} points of {self.name} each, the other {depth - k} only "
            f"{_points(rest)}. Cut there and {'given that head' if through else 'left untrained'}, "
            f"the model reads out {_points(here)} of {_points(full)}, {here / full:.0%} of the "
            "full model's score. "
        )
        text += (
            "This underestimates the cut: distillation recovers a part that "
            f"no {'linear map' if through else 'untrained read-out'} shows."
            if self.predicted is None
            else f"Trained, {self.expected(k)}."
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
