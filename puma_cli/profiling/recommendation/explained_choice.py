"""A recommended depth, and why it is recommended, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puma_cli.profiling.cost.depth_cost import DepthCost
from puma_cli.profiling.recommendation.curves import Best, heights_above_chord
from puma_cli.report.numbers import count, percent, three_digits

# Where the read-out gives no lead: 12 of 28 layers (PUMA, arXiv 2507.08064).
PAPER_SHARE = 12 / 28
# Rules after which there is nothing to type: no cut is needed, or none is good enough.
NO_CUT = ("whole", "unmet")


@dataclass(frozen=True)
class Choice:
    """A recommended depth and how it came about.

    Args:
        k: the number of decoder layers to keep (1 to L).
        keep_last: of these, keep the first k - 1 and the very last instead of the first k.
        rule: `target` (the smallest predicted to keep the share asked for), `readout` (the smallest
            that reads out so well, where nothing predicts what training adds), `budget` (the most
            that may be spent), `knee`, `untrained` (good with no training at all), `share` (the
            read-out gives no lead), `whole` (nothing needs to be cut, or can be) or `unmet` (no cut
            is what was asked for; k is the nearest that is none).
        reason: why, in sentences for a reader.
        metric: the score the choice looked at.
        retention: the share of the full score (0 to 1] asked of `untrained_k`.
        untrained_k: the smallest depth that keeps this share before any training.
        runner_up: the next best depth, or None where none suggests itself.
        runner_up_reason: what speaks for and against it, in a sentence.
    """

    k: int
    keep_last: bool
    rule: str
    reason: str
    metric: str
    retention: float
    untrained_k: int
    runner_up: int | None = None
    runner_up_reason: str = ""


@dataclass(frozen=True)
class ChoiceMaker:
    """Puts choices into words.

    Args:
        best: the better cut at every depth.
        metric, retention, untrained: as in `Choice`.
        noise: standard error of a score.
    """

    best: Best
    metric: str
    retention: float
    untrained: int
    noise: float

    def choice(
        self, k: int, rule: str, reason: str, runner_up: int | None = None, why: str = ""
    ) -> Choice:
        """Return the choice of depth k."""
        best = self.best
        last, scores, firsts = best.keeps_last[k], best.read, best.first.read
        if rule == "untrained":
            last, scores, firsts = (
                best.untrained_keeps_last[k],
                best.untrained,
                best.first.untrained,
            )
        if last:
            reason += (
                f" Of {k} layers, the first {k - 1} and the very last read out better than the "
                f"first {k}: {points(scores[k])} against {points(firsts[k])} points."
            )
        return Choice(
            k=k,
            keep_last=last,
            rule=rule,
            reason=reason,
            metric=self.metric,
            retention=self.retention,
            untrained_k=self.untrained,
            runner_up=runner_up,
            runner_up_reason=why,
        )

    def share(self, why: str, deepest: int, budget: str) -> Choice:
        """Return the depth that is customary, within the budget."""
        depth = self.best.depth
        usual = max(1, min(depth - 1, round(PAPER_SHARE * depth)))
        text = f"{why} The published share of layers, 12 of 28, gives k = {usual} of {depth}"
        if usual <= deepest:
            return self.choice(usual, "share", f"{text}.")
        return self.choice(deepest, "budget", f"{text}, but k = {deepest} is the most in {budget}.")

    def aimed(self, deepest: int, budget: str) -> Choice:
        """Return the smallest depth predicted to reach the aim, within the budget."""
        best, depth, aim = self.best, self.best.depth, percent(self.retention)
        needed = self._first_with(best.kept)
        if needed == depth:
            reason = f"No cut is predicted to keep {aim} of the full model's mean {self.metric}."
            return self.choice(depth, "unmet", reason, *self.cheaper(min(depth, deepest + 1)))
        if needed > deepest:
            return self.choice(
                deepest,
                "budget",
                f"k = {deepest} is the most within {budget}. Trained, {self.expected(deepest)}, "
                f"short of the {aim} asked for.",
                needed,
                f"{self.named(needed)} is predicted to reach {aim}, at a higher cost.",
            )
        reason = (
            f"k = {needed} is the smallest depth whose trained student is predicted to keep {aim} "
            f"of the full model's mean {self.metric}: {self.expected(needed)}. "
            f"{self.as_read(needed)}"
        )
        safe = self._first_with(best.kept_at_least)
        if needed < safe <= min(deepest, depth - 1):
            return self.choice(
                needed,
                "target",
                reason,
                safe,
                f"{self.named(safe)} is the cautious choice: {self.expected(safe)}, and the whole "
                "interval reaches the aim.",
            )
        return self.choice(needed, "target", reason, *self.cheaper(needed))

    def read_at_least(self, deepest: int, budget: str) -> Choice:
        """Return the smallest depth that reads out as well as is asked for, within the budget."""
        best, depth, aim = self.best, self.best.depth, percent(self.retention)
        how = "without training" if best.bridged is None else "through a linear head"
        needed = self._first_with([score / best.full for score in best.read])
        if needed == depth:
            reason = f"No cut keeps {aim} of the full model's mean {self.metric} {how}"
            return self.choice(
                depth, "unmet", f"{reason}, and nothing predicts what training adds."
            )
        if needed > deepest:
            return self.choice(
                deepest,
                "budget",
                f"k = {deepest} is the most within {budget}. {self.as_read(deepest)}",
                needed,
                f"{self.named(needed)} keeps {aim} {how}, at a higher cost.",
            )
        return self.choice(
            needed,
            "readout",
            f"k = {needed} is the smallest depth that keeps {aim} of the full model's mean "
            f"{self.metric} {how}. {self.as_read(needed)} A smaller one may well train back to it: "
            "nothing predicts how far.",
        )

    def affordable(self, deepest: int, budget: str, knee: int | None) -> Choice:
        """Return the deepest cut within the budget."""
        if deepest == self.best.depth:
            reason = f"The whole model keeps within {budget}."
            return self.choice(deepest, "whole", reason, *self.cheaper(deepest))
        reason = f"k = {deepest} is the most within {budget}."
        if self.best.predicted is not None:
            reason += f" Trained, {self.expected(deepest)}."
        reason += f" {self.as_read(deepest)}"
        if knee is not None and knee < deepest:
            why = f"{self.named(knee)} is the knee of the read-out: later layers add less each."
            return self.choice(deepest, "budget", reason, knee, why)
        return self.choice(deepest, "budget", reason, *self.cheaper(deepest))

    def too_dear(self, budget: str, cost: DepthCost) -> Choice:
        """Return the smallest cut, where not even that keeps within the budget."""
        return self.choice(
            1,
            "unmet",
            f"No cut keeps within {budget}: even with one decoder layer the model has "
            f"{count(cost.parameters)} parameters and takes {three_digits(cost.latency_query)} ms "
            "a query.",
        )

    def good_untrained(self) -> Choice:
        """Return the smallest depth that needs no training."""
        k, full, score = self.untrained, self.best.full, self.best.untrained[self.untrained]
        return self.choice(
            k,
            "untrained",
            f"At k = {k} the model keeps {score / full:.0%} of its mean {self.metric} "
            f"({points(score)} of {points(full)}) before any training, which meets the aim of "
            f"{percent(self.retention)}; distillation comes on top.",
            *self.cheaper(k),
        )

    def knee(self, k: int) -> Choice:
        """Return the knee, with the runner-up by the same rule."""
        best = self.best
        depth, full, here = best.depth, best.full, best.read[k]
        each, rest = (here - best.read[0]) / k, (full - here) / (depth - k)
        through = best.bridged is not None
        text = (
            f"{'Through a linear head' if through else 'Untrained'}, k = {k} reads out "
            f"{points(here)} of {points(full)} points of mean {self.metric}, {here / full:.0%}: "
            f"{points(each)} a layer, where the other {depth - k} add {points(rest)} each. "
        )
        if best.predicted is None:
            text += (
                "This underestimates the cut: distillation recovers a part that "
                f"no {'linear map' if through else 'untrained read-out'} shows."
            )
        else:
            text += f"Trained, {self.expected(k)}."
        aim = percent(self.retention)
        if self.untrained == depth:
            text += f" Without training no smaller depth keeps {aim}."
        else:
            text += f" Without training, {aim} takes k = {self.untrained}."
        return self.choice(k, "knee", text, *self._second_knee(k))

    def _second_knee(self, knee: int) -> tuple[int | None, str]:
        above = heights_above_chord(self.best.read)
        height = above.pop(knee)
        other = max(above, key=lambda k: above[k], default=None)
        if other is None or above[other] <= self.noise:
            return None, ""
        expected = "" if self.best.predicted is None else f" Trained, {self.expected(other)}."
        near = abs(above[other] - height) <= self.noise
        text = (
            "as far above the straight line from no layer to all, within the noise."
            if near
            else f"{points(above[other])} points above the straight line from no layer to all, "
            f"where k = {knee} is {points(height)} above it."
        )
        return other, f"{self.named(other)} comes next, {text}{expected}"

    def expected(self, k: int) -> str:
        """Say what the trained cut is predicted to keep."""
        found = self.best.predicted
        if found is None or found.share[k] is None:
            return f"what k = {k} keeps is not predicted"
        text = f"it is predicted to keep {100 * (found.share[k] or 0.0):.0f}%"
        low, high = found.low[k], found.high[k]
        return (
            text if low is None or high is None else f"{text} ({100 * low:.0f} to {100 * high:.0f})"
        )

    def as_read(self, k: int) -> str:
        """Say what the cut keeps without training."""
        best = self.best
        text = f"Untrained it keeps {best.plain[k] / best.full:.0%}"
        if best.bridged is not None:
            text += f", and {best.bridged[k] / best.full:.0%} through a linear head"
        return f"{text}."

    def cheaper(self, k: int) -> tuple[int | None, str]:
        """Return the next smaller depth and what it is predicted to keep."""
        if k == 1 or self.best.predicted is None:
            return None, ""
        expected = self.expected(k - 1).removeprefix("it ")
        return k - 1, f"{self.named(k - 1)} is cheaper and {expected} once trained."

    def named(self, k: int) -> str:
        """Return a depth with its layers, where these are not the first ones."""
        last = self.best.keeps_last[k]
        return f"k = {k} (the first {k - 1} and the last)" if last else f"k = {k}"

    def _first_with(self, kept: Sequence[float | None]) -> int:
        """Return the smallest depth that keeps the share asked for; the whole model does."""
        depth = self.best.depth
        return next(
            (k for k in range(1, depth) if (kept[k] or 0.0) >= self.retention - 1e-9), depth
        )


def points(share: float) -> str:
    """Return a share in points, such as 47.0."""
    return f"{100.0 * share:.1f}"
