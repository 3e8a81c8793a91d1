"""Candidates: every scene of a pool as an image, as a text, and as both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

from puma_cli.data.scenes.phrasing import PHRASINGS, describe, say_ground
from puma_cli.data.scenes.pictures import Pictures
from puma_cli.data.scenes.scene import Scene, Wish

DATASET = "scenes"
DATASET_ID = 11
MODALITIES = ("image", "text", "image,text")


class Pool:
    """Unique scenes with the ids of their candidates.

    Args:
        scenes: the scenes, each once.
        first_did: the number of the first candidate; each scene takes three.
        seed: decides how each caption is worded.
    """

    def __init__(self, scenes: Sequence[Scene], first_did: int, seed: str) -> None:
        self.scenes = list(scenes)
        self._first = {scene: first_did + 3 * n for n, scene in enumerate(self.scenes)}
        rng = Random(f"{seed}:captions")
        self._phrasing = {scene: rng.randrange(PHRASINGS) for scene in self.scenes}
        self._by_key: dict[tuple[bool, bool], dict[Scene, list[Scene]]] = {}

    def __contains__(self, scene: Scene) -> bool:
        return scene in self._first

    @property
    def next_did(self) -> int:
        """The first number that no candidate of the pool has."""
        return 1 + max(self._first.values()) + len(MODALITIES) - 1

    def did(self, scene: Scene, modality: str) -> str:
        """Return the id of the candidate that shows `scene` in `modality`."""
        return f"{DATASET_ID}:{self._first[scene] + MODALITIES.index(modality)}"

    def dids(self, scenes: Iterable[Scene], modality: str) -> list[str]:
        """Return the ids of the candidates that show `scenes` in `modality`."""
        return [self.did(scene, modality) for scene in scenes]

    def phrasing(self, scene: Scene) -> int:
        """Tell which phrasing the caption of `scene` has."""
        return self._phrasing[scene]

    def satisfying(self, wish: Wish) -> list[Scene]:
        """List every scene of the pool that is as `wish` says."""
        if wish.is_full:
            return [wish.scene] if wish.scene in self._first else []
        said = (wish.sizes, wish.background)
        if said not in self._by_key:
            by_key = self._by_key[said] = {}
            for scene in self.scenes:
                by_key.setdefault(wish.key(scene), []).append(scene)
        return self._by_key[said].get(wish.key(wish.scene), [])

    def rows(self, scenes: Iterable[Scene], pictures: Pictures) -> Iterator[list[dict[str, Any]]]:
        """Draw the scenes; yield for each its candidates' rows in the order of `MODALITIES`."""
        for scene in scenes:
            caption = describe(Wish(scene), self._phrasing[scene])
            yield [
                self._row(scene, "image", None, pictures.candidate(scene)),
                self._row(scene, "text", caption, None),
                self._row(scene, "image,text", say_ground(scene), pictures.on_neutral(scene)),
            ]

    def _row(
        self, scene: Scene, modality: str, text: str | None, image: str | None
    ) -> dict[str, Any]:
        return {
            "did": self.did(scene, modality),
            "txt": text,
            "img_path": image,
            "modality": modality,
            "src_content": None,
        }
