"""What a training split asks: equal queries are one question, with the positives of all."""

from __future__ import annotations

from dataclasses import dataclass

from puma_cli.data.mbeir import MbeirFolder, TaskName, select_tasks
from puma_cli.data.records import Query


@dataclass(frozen=True, slots=True)
class Question:
    """One or more equal queries of a task.

    Args:
        query: the first of them, which stands for all.
        positives: ids of all their positives.
        negatives: ids of all the negatives that the data name for them.
    """

    task: TaskName
    query: Query
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


@dataclass(frozen=True)
class Questions:
    """The distinct questions of a training split.

    Args:
        asked: the questions.
        lines: for each training query, in the order of files and lines, the place of its question,
            or None where its task was not chosen.
    """

    asked: tuple[Question, ...]
    lines: tuple[int | None, ...]


def read_questions(data: MbeirFolder, pattern: str = "*") -> Questions:
    """Read the training queries of `data`.

    A text that two captions share has two images for answers: what one line calls right must not
    become a negative of the other.

    Args:
        pattern: comma-separated globs over task names such as `scenes_task0`.

    Raises:
        DataError: the folder has none, none of such a task, or a broken line.
    """
    named = list(data.stream_training())
    chosen = set(select_tasks(sorted({task for task, _ in named}), pattern))
    equal: dict[object, list[tuple[TaskName, Query]]] = {}
    lines: list[int | None] = []
    places: dict[object, int] = {}
    for task, query in named:
        if task not in chosen:
            lines.append(None)
            continue
        key = task, query.text, query.image
        lines.append(places.setdefault(key, len(places)))
        equal.setdefault(key, []).append((task, query))
    asked = tuple(
        Question(
            task=group[0][0],
            query=group[0][1],
            positives=tuple(dict.fromkeys(did for _, each in group for did in each.positives)),
            negatives=tuple(dict.fromkeys(did for _, each in group for did in each.negatives)),
        )
        for group in equal.values()
    )
    return Questions(asked, tuple(lines))
