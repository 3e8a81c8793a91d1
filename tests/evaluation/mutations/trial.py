"""One mutation: what becomes of it when it is scored, checked, and scored without what is bad."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from puma_cli.config.settings import EvaluateSettings
from puma_cli.data.check.check import check_data
from puma_cli.errors import PumaError
from puma_cli.evaluation.encode import Encoder
from puma_cli.evaluation.evaluate import score_data
from puma_cli.evaluation.opening import open_scored_data
from puma_cli.evaluation.results import Scores
from tests.evaluation.mutations import CLASSES
from tests.evaluation.mutations.base import MBEIR, MMEB, PAIRS

REFUSED, EQUAL, FAILED = "refused", "equal", "failed"
LIMIT = 20.0  # seconds for one way of scoring

_FILE = re.compile(r"[\w./\-:]+\.(jsonl|txt|tsv|parquet|csv|zip|png)\b|cand_pool|/query\b|qrels")


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation.

    Args:
        kind: `refused` with a sentence that names file and line, `equal` to the unmutated result,
            or `failed`.
        why: the sentence, or what failed.
        skipped: whether it was scored once what is bad was left out.
    """

    kind: str
    why: str
    seconds: float
    skipped: bool = False


def settings_of(data: Path, **options: Any) -> EvaluateSettings:
    """Return settings that score all of a data set."""
    return EvaluateSettings("hashed", data, data.parent / "out", **options)


def score(data: Path, embedder: Encoder, **options: Any) -> Scores:
    """Score an open model on a data set, as the command does."""
    settings = settings_of(data, **options)
    opened = open_scored_data(settings)
    with opened.images_named():
        return score_data(embedder, opened, settings)


def summary(scores: Scores) -> str:
    """Return what tells results apart: the rank of every query."""
    rows = [(row.task, row.pool, row.qids, row.ranks.tolist()) for row in scores.rows]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def unmutated(base: Path, embedder: Encoder) -> dict[str, str]:
    """Return the summaries of the base data by the name of their part."""
    parts = [base / MBEIR, base / MMEB]
    parts += [base / PAIRS / kind / f"table.{kind}" for kind in ("jsonl", "csv", "parquet")]
    return {path.name: summary(score(path, embedder)) for path in parts}


def run_trial(
    base: Path, room: Path, name: str, seed: int, known: Mapping[str, str], embedder: Encoder
) -> Outcome:
    """Mutate a copy of the base data in one way of a class, and see what becomes of it."""
    shutil.rmtree(room, ignore_errors=True)
    shutil.copytree(base, room)
    # Seeds of text do not differ between runs, unlike its hash.
    data = CLASSES[name](room, Random(f"{name} {seed}"))
    start = time.monotonic()
    try:
        outcome = _scored(data, known[data.name], embedder)
        _check(data, outcome)
        skipped = outcome[0] == REFUSED and _scored_without(data, embedder)
    except PumaError as error:
        return Outcome(FAILED, f"a later step: {error}", time.monotonic() - start)
    except Exception:
        return Outcome(FAILED, traceback.format_exc(), time.monotonic() - start)
    return Outcome(*outcome, time.monotonic() - start, skipped)


def _scored(data: Path, expected: str, embedder: Encoder) -> tuple[str, str]:
    try:
        scores = score(data, embedder)
    except PumaError as error:
        said = str(error)
        said.encode()  # it goes to a terminal
        if not _FILE.search(said):
            return FAILED, f"no file is named: {said}"
        return REFUSED, said
    if summary(scores) == expected:
        return EQUAL, ""
    return FAILED, f"another result, and nothing said: {[r.ranks.tolist() for r in scores.rows]}"


def _check(data: Path, outcome: tuple[str, str]) -> None:
    """Check the data too: what is refused has faults, and no check breaks off."""
    try:
        report = check_data(data, look="decoded", limit=20)
    except PumaError:
        assert outcome[0] == REFUSED
        return
    for fault in report.faults:
        f"{fault.where}: {fault.problem}".encode()
    assert report.total or outcome[0] != REFUSED, f"no fault found, but: {outcome[1]}"


def _scored_without(data: Path, embedder: Encoder) -> bool:
    """Score without what is bad; it is counted if there is a result at all."""
    try:
        scores = score(data, embedder, bad_rows="skip", bad_images="skip")
    except PumaError as error:
        str(error).encode()
        return False
    assert scores.partial and any(scores.skipped.values())
    return True
