"""What must hold before queries are scored: each can be answered, and knows what it asks."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.data.retrieval_data import RetrievalData
from puma_cli.errors import DataError
from puma_cli.evaluation.tasks import Pool, Task
from puma_cli.models.inputs import Input


def check_answers(
    data: RetrievalData, split: str, rows: Sequence[tuple[Task, Pool]], unanswerable: str
) -> None:
    """Refuse queries that nothing in their pool answers, since they can only score 0.

    Args:
        rows: tasks, each with a pool that it is scored in.
        unanswerable: `error` to refuse them, or `zero` to score them 0, as M-BEIR's own code does.

    Raises:
        DataError: names the first such query, and where its answers are listed.
    """
    if unanswerable == "zero":
        return
    for task, pool in rows:
        lost = [
            place
            for place, dids in enumerate(task.relevant)
            if not any(did in pool.index for did in dids)
        ]
        if not lost:
            continue
        qid, dids = task.queries[lost[0]].qid, task.relevant[lost[0]]
        listed = data.judged_at(split, task.name, qid)
        cause = f"Its answer {dids[0]!r} is not in the pool" if dids else "No answer is listed"
        raise DataError(
            f"{len(lost)} of {len(task.queries)} queries of {task.name.name} have no answer in the "
            f"{pool.name} pool, the first of them {qid!r}.",
            cause=f"{cause}: {listed}." if listed else f"{cause}.",
            hint="Is this the right pool? To score such queries 0: --set unanswerable=zero",
        )


def check_instructions(
    data: RetrievalData, tasks: Sequence[Task], asks: Sequence[Sequence[Input]]
) -> list[str]:
    """Return the tasks that have queries without an instruction, in a data set that knows none.

    Args:
        asks: for each task its inputs.

    Raises:
        DataError: the data set has instructions, but none for such a task.
    """
    bare = [
        task.name.name
        for task, inputs in zip(tasks, asks, strict=True)
        if any(entry.instruction is None for entry in inputs)
    ]
    if bare and data.instructions.table:
        raise DataError(
            f"The data set has instructions, but none for queries of {', '.join(bare)}.",
            cause="They are looked up by the data set's number, which a qid begins with, and the "
            "modalities of queries and candidates.",
            hint="Add a line to instructions/query_instructions.tsv.",
        )
    return bare
