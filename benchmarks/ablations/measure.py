"""A few steps of each kind of run, so that a plan's time is this machine's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ablations.cost import batch_of
from ablations.grid import PUMA, Question, Run
from ablations.processes import run_puma
from ablations.records import append
from ablations.workplace import Workplace
from puma_cli.config.loading import STAGES
from puma_cli.errors import PumaError


def kinds(questions: Sequence[Question]) -> list[Run]:
    """Return one run of each data set, the plainest: its seconds scale to the others."""
    found: dict[str, Run] = {}
    for question in questions:
        for row in question.rows:
            run = row.runs[0]
            usual = run.trainer == PUMA and not run.settings and STAGES not in run.base
            if usual and run.cut != "whole":
                found.setdefault(run.data, run)
    return list(found.values())


def measure_all(
    questions: Sequence[Question], place: Workplace, path: Path, say: Callable[[str], None]
) -> None:
    """Take the first steps of every kind by `puma distill --dry-run`, and keep their seconds."""
    chosen = kinds(questions)
    if not chosen:
        say("None of these runs is a plain one: nothing was measured.")
    for run in chosen:
        if not place.is_there(run.model):
            say(f"{run.data}: the model {run.model} is not there yet.")
            continue
        layers = place.layers(run)
        words = place.training(run, place.cut(run, layers), None)
        ended = run_puma(
            ["distill", *words, "--device", place.device, "--dry-run", "--json"], place.log
        )
        seconds = step_seconds(ended.text)
        line = {
            "data": run.data,
            "trainer": run.trainer,
            "layers": list(layers),
            "batch": batch_of(run),
            "steps": 1,
            "train_seconds": seconds,
        }
        append(path, line)
        say(f"{run.data}: {seconds:.2f} s a step of {batch_of(run)} at {len(layers)} layers.")


def step_seconds(text: str) -> float:
    """Return the seconds of a step from what a dry run has said, its JSON among its notes.

    Raises:
        PumaError: no steps were taken.
    """
    content = json.loads(text[text.index("{") :])
    if content.get("measured") is None:
        raise PumaError("The dry run has taken no steps.", cause="They did not fit the memory.")
    return float(content["measured"]["step_seconds"])
