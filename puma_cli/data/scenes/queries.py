"""Queries of all eight tasks for target scenes of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from random import Random
from typing import Any, NamedTuple

from puma_cli.data.records import TASK_MODALITIES
from puma_cli.data.scenes.changes import Edit, edits_to
from puma_cli.data.scenes.phrasing import PHRASINGS, ask, describe
from puma_cli.data.scenes.pictures import Pictures
from puma_cli.data.scenes.pools import DATASET_ID, Pool
from puma_cli.data.scenes.scene import Scene, Wish

TASKS = (0, 1, 2, 3, 4, 6, 7, 8)
PARTIAL_SHARE = 0.3
_PARTIAL = ((False, True), (True, False), (False, False))


class Draft(NamedTuple):
    """A query before it is written: what it shows, and what it wishes for."""

    task: int
    wish: Wish
    text: str | None
    shown: Scene | None


class QueryWriter:
    """Makes the rows of queries.

    Args:
        pool: where the candidates are.
        pictures: where query images are drawn.
        numbers: gives each query its number.
        seed: decides wording, what is left unsaid, and edits.
        may_show: whether a scene may be in a query's image.
    """

    def __init__(
        self,
        pool: Pool,
        pictures: Pictures,
        numbers: count[int],
        seed: str,
        may_show: Callable[[Scene], bool] = lambda scene: True,
    ) -> None:
        self._pool, self._pictures, self._numbers = pool, pictures, numbers
        self._may_show = may_show
        self._rng = Random(f"{seed}:queries")

    def rows(
        self, target: Scene, twins: Sequence[Scene] = (), source: Scene | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield one row per task, in the order of `TASKS`.

        Args:
            target: the scene asked for; it is in the pool.
            twins: scenes of the pool to list as negatives, unless they satisfy the query.
            source: the neighbour that edits start from; drawn if not given.
        """
        edits = self._edits(target)
        if source:
            edits = [[edit for kind in edits for edit in kind if edit.source == source]]
        for task in TASKS:
            yield self._row(self._draft(task, target, edits), twins)

    def _draft(self, task: int, target: Scene, edits: list[list[Edit]]) -> Draft:
        query_modality, _ = TASK_MODALITIES[task]
        if query_modality == "image":
            return Draft(task, Wish(target), None, target)
        if query_modality == "text":
            wish = self._wish(target)
            return Draft(task, wish, self._word(wish), None)
        source, change = self._rng.choice(self._rng.choice(edits))
        return Draft(task, Wish(target), ask(change, source, self._rng), source)

    def _wish(self, target: Scene) -> Wish:
        if self._rng.random() < PARTIAL_SHARE:
            return Wish(target, *self._rng.choice(_PARTIAL))
        return Wish(target)

    def _word(self, wish: Wish) -> str:
        # Never the caption's own phrasing, so that matching strings is not enough.
        step = self._rng.randrange(1, PHRASINGS)
        return describe(wish, (self._pool.phrasing(wish.scene) + step) % PHRASINGS)

    def _edits(self, target: Scene) -> list[list[Edit]]:
        """List the edits that may lead to `target`, grouped by kind."""
        kinds = [
            [edit for edit in edits if self._may_show(edit.source)]
            for edits in edits_to(target).values()
        ]
        # A source that is a candidate itself is the hardest negative of its query.
        near = [[edit for edit in edits if edit.source in self._pool] for edits in kinds]
        return [edits for edits in (near if any(near) else kinds) if edits]

    def _row(self, draft: Draft, twins: Iterable[Scene]) -> dict[str, Any]:
        query_modality, modality = TASK_MODALITIES[draft.task]
        positives = self._pool.satisfying(draft.wish)
        negatives = [s for s in twins if not draft.wish.is_satisfied_by(s)]
        shown = draft.shown
        is_new = shown not in (draft.wish.scene, *negatives)
        if twins and shown and is_new and shown in self._pool:
            negatives.append(shown)
        return {
            "qid": f"{DATASET_ID}:{next(self._numbers)}",
            "query_txt": draft.text,
            "query_img_path": self._pictures.query(shown) if shown else None,
            "query_modality": query_modality,
            "query_src_content": None,
            "pos_cand_list": self._pool.dids(positives, modality),
            "neg_cand_list": self._pool.dids(negatives, modality),
            "task_id": draft.task,
        }
