"""Scores on disk: scores.json, one line for each query, and the benchmark's own table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from puma_cli.checkpoint.layout import SCORES
from puma_cli.checkpoint.output_folder import write_json, write_text
from puma_cli.data.records import TASK_MODALITIES
from puma_cli.errors import DataError
from puma_cli.evaluation.results import LOCAL, METRICS, NDCG, UNION, Scores, TaskScores

FORMAT = 1
PER_QUERY = "per_query.jsonl"
RESULTS = "results.tsv"
RUNS = "runs"
RUN_DEPTH = 100

_PLAIN = ("model", "data", "split", "tasks", "instruction", "seed", "limit")
# Earlier versions wrote none of these.
_LATER = ("protocol", "skipped", "query_model", "space", "hubness_penalty")
_ROW = (
    "task",
    "dataset",
    "task_id",
    "pool",
    "k",
    "candidates",
    "available",
    "missing",
    "unanswerable",
    "query_hash",
    "pool_hash",
)
# The header of UniIR's result table.
_COLUMNS = (
    "TaskID",
    "Task",
    "Dataset",
    "Split",
    "Metric",
    "CandPool",
    "Value",
    "UnionPool",
    "UnionValue",
)


def write_scores(folder: Path, scores: Scores) -> None:
    """Write `scores.json`, `per_query.jsonl` and `results.tsv` into an existing folder."""
    rows = [
        {name: getattr(row, name) for name in _ROW}
        | {"queries": row.queries, "tied": row.tied, "metrics": row.metrics}
        for row in scores.rows
    ]
    head = {name: getattr(scores, name) for name in (*_PLAIN, *_LATER)}
    write_json(
        folder / SCORES,
        {"format": FORMAT, **head, "partial": scores.partial, "means": scores.means, "rows": rows},
    )
    lines = [
        json.dumps(
            {
                "qid": qid,
                "task": row.task,
                "pool": row.pool,
                "rank": int(row.ranks[i]),
                "ties": int(row.ties[i]),
                "positives": int(row.positives[i]),
                NDCG: float(row.ndcg[i]),
            }
        )
        for row in scores.rows
        for i, qid in enumerate(row.qids)
    ]
    write_text(folder / PER_QUERY, "".join(line + "\n" for line in lines))
    write_text(folder / RESULTS, results_table(scores))


def results_table(scores: Scores) -> str:
    """Return the scores in the columns of UniIR's table; values are shares from 0 to 1.

    Its Recall@K is a hit rate. A pool that was not searched leaves its columns empty.
    """
    by_task: dict[str, dict[str, TaskScores]] = defaultdict(dict)
    for row in scores.rows:
        by_task[row.task][row.pool] = row
    lines = ["\t".join(_COLUMNS)]
    for task, pools in by_task.items():
        row = next(iter(pools.values()))
        for k in sorted({1, 5, 10, row.k}):
            modalities = " -> ".join(TASK_MODALITIES[row.task_id])
            cells = [str(row.task_id), modalities, row.dataset, scores.split, f"Recall@{k}"]
            for pool, name in ((LOCAL, task), (UNION, UNION)):
                found = pools.get(pool)
                cells += [name, f"{found.score(f'hit@{k}'):.6f}"] if found else ["", ""]
            lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"


def write_run(
    folder: Path, row: TaskScores, dids: Sequence[Sequence[str]], scores: Sequence[Sequence[float]]
) -> None:
    """Write the retrieved candidates of one row as `runs/{pool}/{task}.txt`.

    The columns are `qid Q0 did rank score run_id task_id`. The order is what a user would see, with
    ties in the order of the pool; the metrics are stricter and count ties as losses.

    Args:
        folder: the score folder.
        dids: for each query the ids of its results, best first.
        scores: their cosines.
    """
    path = folder / RUNS / row.pool / f"{row.task}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{qid} Q0 {did} {rank} {score:.9g} puma {row.task_id}\n"
        for qid, found, values in zip(row.qids, dids, scores, strict=True)
        for rank, (did, score) in enumerate(zip(found, values, strict=True), start=1)
    ]
    write_text(path, "".join(lines))


def read_scores(folder: str | Path) -> Scores:
    """Read a score folder and check that its means follow from its lines.

    Raises:
        DataError: it is no score folder, or its files are broken or contradict each other.
    """
    folder = Path(folder)
    path = folder / SCORES
    if not path.is_file():
        raise DataError(
            f"`{folder}` holds no scores."
            if folder.is_dir()
            else f"There is no folder `{folder}`.",
            cause=f"A score folder has a file {SCORES}.",
            hint="Make one with `puma eval MODEL --data DATA --output-dir FOLDER`.",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise DataError(f"`{path}` was written by a later version.", hint="Update puma.")
        entries: list[dict[str, Any]] = content["rows"]
        keys = {(entry["task"], entry["pool"]) for entry in entries}
        per_query = _read_per_query(folder / PER_QUERY, keys)
        rows = tuple(_row(entry, per_query[entry["task"], entry["pool"]]) for entry in entries)
        later = {name: content[name] for name in _LATER if name in content}
        scores = Scores(rows=rows, **{name: content[name] for name in _PLAIN}, **later)
        stated = [{m: float(entry["metrics"][m]) for m in METRICS} for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise DataError(
            f"`{path}` is broken.",
            cause=f"{type(error).__name__}: {error}",
            hint="Score the model again with `puma eval ... --overwrite`.",
        ) from error
    for row, entry, metrics in zip(rows, entries, stated, strict=True):
        same = row.queries == entry["queries"] and all(
            abs(row.score(m) - metrics[m]) < 1e-9 for m in METRICS
        )
        if not same:
            raise DataError(
                f"`{path}` and `{PER_QUERY}` disagree about {row.task} ({row.pool}).",
                cause="One of them was changed, or lost lines, after it was written.",
                hint="Score the model again with `puma eval ... --overwrite`.",
            )
    return scores


def _row(entry: dict[str, Any], lines: list[dict[str, Any]]) -> TaskScores:
    return TaskScores(
        **{name: entry[name] for name in _ROW},
        qids=tuple(line["qid"] for line in lines),
        ranks=np.array([line["rank"] for line in lines], dtype=np.int64),
        ties=np.array([line["ties"] for line in lines], dtype=np.int64),
        positives=np.array([line["positives"] for line in lines], dtype=np.int64),
        ndcg=np.array([line[NDCG] for line in lines], dtype=np.float64),
    )


def _read_per_query(
    path: Path, keys: set[tuple[str, str]]
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    table: dict[tuple[str, str], list[dict[str, Any]]] = {key: [] for key in keys}
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            try:
                line = json.loads(text)
                table[line["task"], line["pool"]].append(line)
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"`{path}`, line {number} is broken: {text.strip()[:80]!r}.",
                    cause=f"{type(error).__name__}: {error}",
                    hint="Score the model again with `puma eval ... --overwrite`.",
                ) from error
    return table
