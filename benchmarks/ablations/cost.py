"""What runs will take, from what others took."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.grid import PUMA, Question, Run
from puma_cli.config.loading import STAGES

# What a step spends besides its decoder layers, in units of one: embeddings, images and losses.
_BESIDE = 3.0
# Seconds of a step of 48 pairs at 4 layers of puma-mini, in float32 on one thread of a slow CPU.
_STEP = 0.65
_USUAL_BATCH = 48
# Depth of the models here, where the whole of one trains.
_DEPTH = 12
# Seconds for starting, cutting and scoring; a scoring takes as long as some steps.
_FIXED, _SCORED_STEPS = 20.0, 60.0


@dataclass(frozen=True)
class Rates:
    """Seconds of a unit of work: a pair through one layer, forward and backward.

    Args:
        units: by data set and trainer, from lines of results or dry runs.
        sources: of how many measurements each is the median.
    """

    units: Mapping[tuple[str, str], float]
    sources: Mapping[tuple[str, str], int]

    def of(self, run: Run) -> float:
        """Return the seconds of a unit of a run: measured on its data, or else elsewhere."""
        found = self.units.get((run.data, run.trainer or PUMA))
        if found is None:
            same = [value for (_, trainer), value in self.units.items() if trainer == PUMA]
            found = statistics.median(same) if same else _STEP / _USUAL_BATCH / (4 + _BESIDE)
        return found

    def is_measured(self, run: Run) -> bool:
        """Tell whether runs like this one were measured."""
        return (run.data, run.trainer or PUMA) in self.units


def rates_of(lines: Iterable[Mapping[str, Any]], measured: Path | None = None) -> Rates:
    """Return rates from recorded runs and from the dry runs of `measure`.

    Args:
        lines: of results.
        measured: file of dry runs, whose lines count like those of results.
    """
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in (*lines, *_dry(measured)):
        if line.get("steps") and line.get("train_seconds"):
            work = line["steps"] * line["batch"] * (len(line["layers"]) + _BESIDE)
            found[line["data"], line["trainer"]].append(line["train_seconds"] / work)
    return Rates(
        {key: statistics.median(values) for key, values in found.items()},
        {key: len(values) for key, values in found.items()},
    )


def _dry(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.is_file():
        return []
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def steps_of(run: Run) -> int:
    """Return the optimizer steps of a run, over all of its stages; 0 without a training."""
    if not run.trainer:
        return 0
    stages = run.base.get(STAGES)
    if not stages:
        return int(run.setting("train.steps") or 0)
    common = run.setting("train.steps") or 0
    return sum(
        int(
            run.settings.get(f"{STAGES}.{stage['name']}.train.steps")
            or stage.get("train", {}).get("steps", common)
        )
        for stage in stages
    )


def batch_of(run: Run) -> int:
    """Return the queries of a batch."""
    return int(run.setting("batch.size", 96))


def seconds_of(run: Run, rates: Rates) -> float:
    """Return the seconds that a run will take, scoring included."""
    unit, depth = rates.of(run), (run.k or _DEPTH) + _BESIDE
    scoring = _SCORED_STEPS * _USUAL_BATCH * depth * unit / 3
    pairs = steps_of(run) * batch_of(run)
    # In chunks, there is a second pass forward.
    chunked = 4 / 3 if run.setting("batch.chunk_tokens") else 1.0
    live = run.teacher != "none" and not run.setting("train.cache_teacher")
    teacher = pairs * (_DEPTH + _BESIDE) * unit / 3 if live and run.trainer else 0.0
    return _FIXED + scoring + pairs * depth * unit * chunked + teacher


def table(
    questions: Sequence[Question], done: set[str], rates: Rates
) -> tuple[list[dict[str, Any]], float]:
    """Return one entry a question and data set, and the seconds of all runs that are left.

    What two questions share counts for the first.

    Args:
        done: keys of the runs that have their line.
    """
    entries, seen, total = [], set(done), 0.0
    for question in questions:
        for data in question.data:
            runs = {run.key: run for row in question.of(data) for run in row.runs}
            left = [run for key, run in runs.items() if key not in seen]
            seen |= runs.keys()
            took = sum(seconds_of(run, rates) for run in left)
            total += took
            entries.append(
                {
                    "question": question.name,
                    "title": question.title,
                    "data": data,
                    "runs": len(runs),
                    "left": len(left),
                    "seconds": took,
                    "measured": all(rates.is_measured(run) for run in left),
                }
            )
    return entries, total
