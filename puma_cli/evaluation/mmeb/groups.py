"""MMEB's means: over all image data sets, those trained on, those not, and each meta-task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from puma_cli.data.mmeb.names import DOCUMENT_SETS, VIDEO_SETS, groups

PRECISION = "hit@1"
NOT_RUN = {"video": VIDEO_SETS, "visual documents": DOCUMENT_SETS}


@dataclass(frozen=True)
class GroupMean:
    """The plain mean of Precision@1 over the data sets of a group.

    Args:
        name: `all`, `IND`, `OOD` or a meta-task.
        size: how many data sets the group has.
        mean: over those that were scored, or None if none was.
        missing: those that were not scored; the mean is the published one only without any.
    """

    name: str
    size: int
    mean: float | None
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every data set of the group was scored."""
        return not self.missing

    def to_json(self) -> dict[str, Any]:
        """Return the mean as plain JSON."""
        return {
            "mean": self.mean,
            "sets": self.size - len(self.missing),
            "of": self.size,
            "complete": self.complete,
            "missing": list(self.missing),
        }


def group_means(scores: Mapping[str, float]) -> list[GroupMean]:
    """Return the mean of every group.

    Args:
        scores: Precision@1 of each data set that was scored, from 0 to 1.
    """
    found = []
    for name, members in groups().items():
        there = [scores[each] for each in members if each in scores]
        missing = tuple(each for each in members if each not in scores)
        mean = float(np.mean(there)) if there else None
        found.append(GroupMean(name, len(members), mean, missing))
    return found
