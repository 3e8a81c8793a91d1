"""Results on disk: one line of JSON a run, and beside it the rank of every query's answer."""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puma_cli.data.records import TASK_MODALITIES
from puma_cli.errors import DataError
from puma_cli.evaluation.metrics import from_first_rank
from puma_cli.evaluation.results import LOCAL, UNION, Scores

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "docs" / "results" / "ablations"
# One character a query: its answer's rank, or a dot beyond the last of them.
_RANKS = "123456789abcdefghijk"
BEYOND = "."
SAME, OTHER, RIGHT = "s", "o", "1"


@dataclass(frozen=True)
class Hits:
    """The ranks of one run on one split.

    Args:
        ranks: by pool and task a character for each query, in the order of the data.
        wrong: by task, where the first candidate of the union pool is of the answer's modality
            (`s`) or another (`o`), or the answer (`1`).
        queries: by task the hash of its queries.
    """

    key: str
    split: str
    ranks: Mapping[str, Mapping[str, str]]
    wrong: Mapping[str, str]
    queries: Mapping[str, str]

    def values(self, metric: str, pool: str = LOCAL) -> dict[str, NDArray[np.float64]]:
        """Return the metric of every query by task, each (Q,)."""
        return {
            task: from_first_rank(metric, unpacked(text)) for task, text in self.ranks[pool].items()
        }


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Args:
        lines: what is known of each run on a split, by its key and the split.
        hits: likewise its ranks.
        profiles: what each analysis says of every depth, by model and data.
    """

    lines: Mapping[tuple[str, str], dict[str, Any]]
    hits: Mapping[tuple[str, str], Hits]
    profiles: Mapping[tuple[str, str], dict[str, Any]]


def read_results(folder: Path = RESULTS) -> Results:
    """Read a folder of results; one that is not there holds none.

    Raises:
        DataError: a line is broken, or a run has a line and no ranks.
    """
    lines = {(line["key"], line["split"]): line for line in read_lines(folder / "runs.jsonl")}
    hits = {
        (line["key"], line["split"]): Hits(**line) for line in read_lines(folder / "hits.jsonl")
    }
    for key, split in lines:
        if (key, split) not in hits:
            raise DataError(
                f"{folder} has a line of the run {key} on {split}, and not its ranks.",
                hint="Take the line out of runs.jsonl, and run it again.",
            )
    profiles = {
        (line["model"], line["data"]): line for line in read_lines(folder / "profiles.jsonl")
    }
    return Results(lines, hits, profiles)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file, none of one that is not there.

    Raises:
        DataError: names the file and the line that is broken.
    """
    if not path.is_file():
        return []
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is broken.", cause=str(error)) from error
        found.append(line)
    return found


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a file, whole even where several processes do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        if text and not text.endswith("\n"):
            # A process was killed while it wrote: what it left is no line.
            file.truncate(len(text[: text.rfind("\n") + 1].encode()))
        file.write(json.dumps(line) + "\n")


def packed(ranks: NDArray[np.int64]) -> str:
    """Return ranks (Q,) as text, a character each; 0 and what is beyond the last is a dot."""
    return "".join(_RANKS[r - 1] if 0 < r <= len(_RANKS) else BEYOND for r in ranks.tolist())


def unpacked(text: str) -> NDArray[np.int64]:
    """Return the ranks (Q,) that `packed` made a text of, 0 for a dot."""
    return np.array([_RANKS.find(each) + 1 for each in text], dtype=np.int64)


def hits_of(key: str, scores: Scores, folder: Path, modalities: Mapping[str, str]) -> Hits:
    """Return what is kept of a score folder.

    Args:
        modalities: of the candidates, by id.
    """
    ranks = {
        pool: {row.task: packed(row.ranks) for row in scores.of_pool(pool)} for pool in scores.pools
    }
    wrong = {}
    if UNION in scores.pools:
        for row in scores.of_pool(UNION):
            first = _first_candidates(folder / "runs" / UNION / f"{row.task}.txt")
            answer = _answer_modality(row.task)
            wrong[row.task] = "".join(
                RIGHT if rank == 1 else SAME if modalities[first[qid]] == answer else OTHER
                for qid, rank in zip(row.qids, row.ranks.tolist(), strict=True)
            )
    queries = {row.task: row.query_hash for row in scores.of_pool(LOCAL)}
    return Hits(key, scores.split, ranks, wrong, queries)


def _first_candidates(path: Path) -> dict[str, str]:
    """Return the first candidate of each query in a run file."""
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        qid, _, did, *_ = line.split(" ")
        found.setdefault(qid, did)
    return found


def _answer_modality(task: str) -> str:
    return TASK_MODALITIES[int(task.rpartition("task")[2])][1]


def commit() -> str:
    """Return the commit of the code, with a plus if files differ from it; empty outside a clone."""
    if shutil.which("git") is None:
        return ""
    head = _git("rev-parse", "--short", "HEAD")
    return head + "+" if head and _git("status", "--porcelain", "-uno", "puma_cli") else head


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() if done.returncode == 0 else ""


def machine(device: str) -> str:
    """Say what kind of machine this is: its processor, threads and the device."""
    import torch

    there = "no GPU"
    if device.startswith("cuda") and torch.cuda.is_available():
        there = torch.cuda.get_device_name(device)
    elif device == "mps":
        there = "MPS"
    return f"{platform.machine()}, {torch.get_num_threads()} threads, {there}"
