"""What a mining comes to, task by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from puma_cli.mining.negatives import Found

COLUMNS = (
    "task",
    "queries",
    "negatives a query",
    "cosine of positives",
    "cosine of negatives",
    "above the margin",
    "queries without",
)

NO_POSITIVE = "no positive of theirs is in the training pool"
ALONE = "there is no candidate besides their positives"
ALL_ABOVE = "all candidates score above the margin"
OUTSIDE = "max_score, min_score and skip leave none"


@dataclass(frozen=True)
class MinedTask:
    """The negatives of one task's queries.

    Args:
        task: name such as `scenes_task0`.
        queries: training queries; equal ones count each.
        negatives: negatives found for them, in all.
        positive: mean cosine of their lowest-scoring positives, or None if there are none.
        negative: mean cosine of the negatives, or None if there are none.
        above: share of each query's hardest candidates, as many as negatives were asked for, that
            scored above the margin and were passed over; the mean over queries.
        without: how many queries got no negatives, by the reason.
    """

    task: str
    queries: int
    negatives: int
    positive: float | None
    negative: float | None
    above: float
    without: Mapping[str, int] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """Return the task's row under `COLUMNS`."""
        return (
            self.task,
            f"{self.queries:,}",
            f"{self.negatives / self.queries:.1f}",
            "–" if self.positive is None else f"{self.positive:.3f}",
            "–" if self.negative is None else f"{self.negative:.3f}",
            f"{self.above:.1%}",
            f"{sum(self.without.values()):,}",
        )


@dataclass(frozen=True)
class MineResult:
    """What `puma mine` found.

    Args:
        folder: the data set with its negatives.
        tasks: what was found for each task, by number, then by data set.
        total: the same over all tasks.
    """

    folder: Path
    tasks: tuple[MinedTask, ...]
    total: MinedTask

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each task and, of several, one for all."""
        total = [self.total.cells()] if len(self.tasks) > 1 else []
        return [*(task.cells() for task in self.tasks), *total]

    def reasons(self) -> list[str]:
        """Return a sentence for each reason that left queries without negatives."""
        return [
            f"{count:,} of {self.total.queries:,} queries have no negatives: {reason}."
            for reason, count in self.total.without.items()
        ]


def summarise(task: str, found: Sequence[Found], asked: int) -> MinedTask:
    """Sum up what was found for a task's queries (>= 1).

    Args:
        asked: negatives that were asked for each query.
    """
    scores = [score for each in found for score in each.scores]
    shares = [min(each.above, asked) / min(each.others, asked) for each in found if each.others]
    return MinedTask(
        task=task,
        queries=len(found),
        negatives=len(scores),
        positive=_mean(each.positive for each in found if each.positive is not None),
        negative=_mean(scores),
        above=_mean(shares) or 0.0,
        without=Counter(_why(each) for each in found if not each.negatives),
    )


def _why(found: Found) -> str:
    if found.positive is None:
        return NO_POSITIVE
    if not found.others:
        return ALONE
    return ALL_ABOVE if found.above == found.others else OUTSIDE


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return fmean(kept) if kept else None
