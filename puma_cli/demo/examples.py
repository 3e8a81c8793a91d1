"""Choosing the retrieved examples that a demo shows as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from puma_cli.data.mbeir import MbeirFolder, TaskName
from puma_cli.data.records import Query
from puma_cli.evaluation.results import LOCAL
from puma_cli.evaluation.score_folder import RUNS, read_scores
from puma_cli.report.gallery import ACROSS, Example, Found, Ranking

# Tasks with pictures on either side: text to image, image to text, edits of an image.
_TASKS = (0, 3, 7)

HOW = (
    "Shown for each of three tasks: the first query that the cut alone gets wrong and the student "
    "right, and the first that the student gets wrong."
)


def pick_examples(data: Path, scores: Mapping[str, Path], split: str = "test") -> list[Example]:
    """Return examples of the tasks with pictures: what every model finds for the same query.

    For each task, the first query that the first and the last model answer and those between
    them do not, and then, so that mistakes are seen too, the first that the last one misses.

    Args:
        data: folder in the M-BEIR layout.
        scores: score folder of each model by the name to show, with run files of its local pools.

    Raises:
        DataError: the folders do not fit together.
    """
    folder = MbeirFolder(data)
    ranks = {name: _ranks(path) for name, path in scores.items()}
    examples = []
    for task in folder.tasks(split):
        if task.task_id not in _TASKS:
            continue
        queries = {query.qid: query for query in folder.queries(split, task)}
        shared = [qid for qid in queries if all((task.name, qid) in of for of in ranks.values())]
        firsts = {qid: [of[task.name, qid] for of in ranks.values()] for qid in shared}
        regained = [q for q, r in firsts.items() if r[0] == r[-1] == 1 and 1 not in r[1:-1]]
        missed = [q for q, r in firsts.items() if r[-1] != 1]
        for qid in [*regained[:1], *missed[:1]]:
            examples.append(_example(folder, split, task, queries[qid], scores, ranks))
    return examples


def _example(
    folder: MbeirFolder,
    split: str,
    task: TaskName,
    query: Query,
    scores: Mapping[str, Path],
    ranks: Mapping[str, Mapping[tuple[str, str], int]],
) -> Example:
    pool = {candidate.did: candidate for candidate in folder.local_pool(task, split)}
    relevant = folder.qrels(split, task).get(query.qid, set())
    rankings = []
    for name, path in scores.items():
        found = [pool[did] for did in _top(path, task.name, query.qid)]
        rankings.append(
            Ranking(
                name,
                tuple(Found(c.text, c.image, c.did in relevant) for c in found),
                ranks[name][task.name, query.qid] or None,
            )
        )
    instruction = folder.instructions.pick(query, "first")
    return Example(task.name, instruction, query.text, query.image, tuple(rankings))


def _ranks(folder: Path) -> dict[tuple[str, str], int]:
    """Return the rank of the first relevant candidate by task and qid."""
    return {
        (row.task, qid): int(rank)
        for row in read_scores(folder).of_pool(LOCAL)
        for qid, rank in zip(row.qids, row.ranks, strict=True)
    }


def _top(folder: Path, task: str, qid: str) -> list[str]:
    """Return the ids of a query's best candidates from the run file."""
    path = folder / RUNS / LOCAL / f"{task}.txt"
    with path.open(encoding="utf-8") as file:
        lines = (line.split() for line in file)
        return [line[2] for line in lines if line[0] == qid][:ACROSS]
