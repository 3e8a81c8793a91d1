"""Examples for the report of an evaluation, chosen while its rows are scored."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.evaluation.results import TaskScores
from puma_cli.evaluation.tasks import Pool, Task
from puma_cli.models.inputs import Input
from puma_cli.report.found_examples import make_example, right_and_wrong
from puma_cli.report.gallery import Example

_EXAMPLES = 24
_OF_EACH = 2


class ExampleChooser:
    """Keeps a few queries of each task, with what was found in the first of its pools.

    Args:
        seed: of the draw.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._by_task: dict[str, list[Example]] = {}

    def see(
        self,
        task: Task,
        pool: Pool,
        row: TaskScores,
        asked: Sequence[Input],
        found: Sequence[Sequence[str]],
    ) -> None:
        """Take in a row.

        Args:
            asked: what the model saw of each query.
            found: for each query the ids of its best candidates, best first.
        """
        if row.task in self._by_task:
            return
        self._by_task[row.task] = [
            make_example(
                f"{row.task}, {row.pool} pool: {word}",
                task.queries[place],
                asked[place].instruction,
                task.relevant[place],
                {"found": (found[place], int(row.ranks[place]))},
                lambda did: pool.candidates[pool.index[did]],
            )
            for word, place in right_and_wrong(row, _OF_EACH, self._seed)
        ]

    def chosen(self) -> list[Example]:
        """Return the examples, of many tasks fewer of each."""
        each = max(1, _EXAMPLES // max(1, len(self._by_task)))
        return [
            example
            for examples in self._by_task.values()
            # First and last are one that is right and one that is wrong, where there are both.
            for example in (examples if len(examples) <= each else _ends(examples, each))
        ]


def _ends(examples: list[Example], count: int) -> list[Example]:
    head = (count + 1) // 2
    return examples[:head] + examples[len(examples) - (count - head) :]
