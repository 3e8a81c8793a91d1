"""Which depth to cut at, from what is read out and predicted at every depth, in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from puma_cli.errors import ConfigError
from puma_cli.profiling.cost.depth_cost import DepthCost
from puma_cli.profiling.recommendation.aims import NO_AIMS, Aims
from puma_cli.profiling.recommendation.curves import Best, Curves, find_knee
from puma_cli.profiling.recommendation.explained_choice import Choice, ChoiceMaker, points

# What counts as good without training, unless an aim says otherwise.
GOOD = 0.9


def choose(
    first: Curves,
    *,
    queries: int,
    keep_last: Curves | None = None,
    aims: Aims = NO_AIMS,
    costs: Sequence[DepthCost] = (),
    metric: str = "hit@1",
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

    Every depth stands for the better of its two cuts: the first k layers, unless the first k - 1
    and the very last read out better by more than a standard error.

    Args:
        first: the cuts to the first k layers.
        queries: number of queries behind each score (>= 1).
        keep_last: the cuts that keep the last layer, or None if they were not measured.
        aims: what is asked of the cut.
        costs: what the cut to k layers costs, k = 1 to L; only bounds look at them.
        metric: name of the score.

    Raises:
        ConfigError: an illegal retention.
    """
    good = GOOD if aims.retention is None else aims.retention
    check_retention(good)
    depth, full = len(first.untrained) - 1, first.untrained[-1]
    noise = math.sqrt(max(full * (1.0 - full), 1.0 / queries) / queries)
    best = Best(first, keep_last, noise)
    untrained = next(k for k in range(1, depth + 1) if best.untrained[k] >= good * full)
    made = ChoiceMaker(best, metric, good, untrained, noise)
    deepest = aims.affordable(costs) if aims.bounded else depth
    if depth == 1:
        return made.choice(1, "whole", "The model has one decoder layer: nothing can be cut.")
    if deepest == 0:
        return made.too_dear(aims.budget, costs[0])
    if full - first.untrained[0] <= 3.0 * noise:
        return made.share(
            f"The full model itself is near chance on this data (mean {metric} {points(full)}), "
            "so no depth can be told from another.",
            deepest,
            aims.budget,
        )
    if aims.retention is not None:
        if best.predicted is None:
            return made.read_at_least(deepest, aims.budget)
        return made.aimed(deepest, aims.budget)
    knee, height = find_knee(best.read, noise)
    if aims.bounded:
        return made.affordable(deepest, aims.budget, knee)
    if untrained <= (knee or depth - 1):
        return made.good_untrained()
    if knee is None or height <= noise:
        return made.share(
            "No inner depth reads out better than a straight line from nothing to the full model, "
            "as is common for models tuned at their last layer; that says little about what "
            "training recovers.",
            deepest,
            aims.budget,
        )
    return made.knee(knee)


def check_retention(retention: float) -> None:
    """Raise ConfigError unless `retention` is a share in (0, 1]."""
    if not 0.0 < retention <= 1.0:
        raise ConfigError(
            f"retention is {retention}, which is no share.", hint="Give a number above 0, up to 1."
        )
