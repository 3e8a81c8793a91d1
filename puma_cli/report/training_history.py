"""A training as its files tell it: the log's numbers by name, the settings, the parents."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.checkpoint.provenance import Provenance, read_provenance
from puma_cli.config.changes import Change, changes, defaults, flattened
from puma_cli.config.training_settings import DistillSettings
from puma_cli.distillation.log import Row, read_log
from puma_cli.distillation.validation import STUDENT, TEACHER
from puma_cli.errors import DataError

# Settings that say where and how long, not what is trained.
_ASIDE = (
    "teacher",
    "resume",
    "overwrite",
    "stop_after",
    "device",
    "full_hash",
    "train.trackers",
    "train.cache_dir",
)


@dataclass(frozen=True)
class Series:
    """The values (N,) of one quantity, at ascending steps (N,)."""

    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def varies(self) -> bool:
        """Whether two values differ."""
        return len(set(self.values)) > 1

    def thinned(self, most: int) -> tuple[list[float], list[float]]:
        """Return steps and values, of neighbours the means where there are more than `most`."""
        size = math.ceil(len(self.steps) / most)
        starts = range(0, len(self.steps), max(1, size))
        means = [
            [sum(part) / len(part) for part in (line[start : start + size] for start in starts)]
            for line in (self.steps, self.values)
        ]
        return means[0], means[1]


@dataclass(frozen=True)
class TrainingHistory:
    """What `log.jsonl` and `puma.json` hold of one training.

    Args:
        name: the output folder's name.
        rows: the log's lines; of two lines on the same step the later counts.
        settings: by dotted name, as plain JSON.
        provenance: the finished folder's, or None of a training that is not at its end.
    """

    name: str
    rows: Sequence[Row]
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance | None = None

    def series(self, name: str) -> Series:
        """Return a quantity's course; it is empty where the log does not have it."""
        found = {
            int(row["step"]): float(value)
            for row in self.rows
            if (value := row.get(name)) is not None and math.isfinite(value)
        }
        steps = tuple(sorted(found))
        return Series(steps, tuple(found[step] for step in steps))

    def named(self, prefix: str) -> dict[str, Series]:
        """Return the courses of all quantities called `prefix ...`, by the rest of their names."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {
            name.removeprefix(f"{prefix} "): self.series(name)
            for name in names
            if name.startswith(f"{prefix} ")
        }

    @cached_property
    def steps(self) -> int:
        """The last step that the log knows."""
        return max((int(row["step"]) for row in self.rows), default=0)

    @cached_property
    def best(self) -> tuple[int, float] | None:
        """Step and mean hit@1 [0, 1] of the first best validation, or None without any."""
        found = self.series(STUDENT)
        if not found:
            return None
        score = max(found.values)
        return found.steps[found.values.index(score)], score

    @cached_property
    def teacher(self) -> float | None:
        """The teacher's mean hit@1 on the same queries [0, 1], or None where it is unknown."""
        found = self.series(TEACHER)
        return found.values[0] if found else None

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return self.provenance is not None

    def setting(self, name: str) -> Any:
        """Return a setting's value, the default where an older version did not have it."""
        return self.settings[name] if name in self.settings else defaults(DistillSettings)[name]

    def weights(self) -> dict[str, float]:
        """Return the weight of each term of the loss, by its name in the log."""
        names = {self.setting("loss.contrastive"): "contrastive_weight"}
        names |= {name: name for name in ("cosine", "similarity", "mse", "gram")}
        found = {name: float(self.setting(f"loss.{key}")) for name, key in names.items()}
        return {name: weight for name, weight in found.items() if weight}

    def changes(self) -> list[Change]:
        """Return the settings that differ from the defaults."""
        found = changes(self.settings, DistillSettings)
        return [change for change in found if change.name not in _ASIDE]


def read_history(folder: Path) -> TrainingHistory:
    """Read what an output folder says of its training, finished or under way.

    Raises:
        CheckpointError: its `puma.json` is broken.
        DataError: nothing was trained there, or nothing is logged yet.
    """
    rows = read_log(folder / LAYOUT.log)
    if not any("loss" in row for row in rows):
        raise DataError(
            f"{folder} has no log of a training.", cause=f"{LAYOUT.log} is missing or empty."
        )
    name = folder.resolve().name
    under_way = folder / LAYOUT.training_settings
    if under_way.is_file():
        return TrainingHistory(name, rows, json.loads(under_way.read_text(encoding="utf-8")))
    provenance = read_provenance(folder)
    if provenance is None:
        return TrainingHistory(name, rows)
    return TrainingHistory(name, rows, flattened(provenance.settings), provenance)
