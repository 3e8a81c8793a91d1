"""The picture files of a data set."""

from __future__ import annotations

from pathlib import Path
from random import Random

from puma_cli.data.scenes.drawing import draw
from puma_cli.data.scenes.scene import Scene

_IMAGES = "mbeir_images/scenes_images"
_CANDIDATE_SHADING, _QUERY_SHADING = 6, 14


class Pictures:
    """Writes renderings below a data set's root and returns their paths as the rows give them.

    Args:
        root: the data set's folder.
        part: the name of the subfolder, such as "train".
        seed: what the renderings depend on besides part, purpose and scene.
    """

    def __init__(self, root: Path, part: str, seed: int) -> None:
        self.seed = seed
        self._root, self._folder = root, f"{_IMAGES}/{part}"
        self._queries: dict[Scene, str] = {}
        self._counts: dict[str, int] = {}

    def candidate(self, scene: Scene) -> str:
        """Draw `scene` as an image candidate."""
        return self._write(scene, "candidate", _CANDIDATE_SHADING)

    def on_neutral(self, scene: Scene) -> str:
        """Draw `scene` as an image+text candidate, without its background."""
        return self._write(scene, "neutral", _CANDIDATE_SHADING)

    def query(self, scene: Scene) -> str:
        """Draw `scene`, once, as queries show it: places and shades are not any candidate's."""
        if scene not in self._queries:
            self._queries[scene] = self._write(scene, "query", _QUERY_SHADING)
        return self._queries[scene]

    def _write(self, scene: Scene, purpose: str, shading: int) -> str:
        number = self._counts.get(purpose, 0)
        folder = f"{self._folder}/{purpose}"
        if not number:
            (self._root / folder).mkdir(parents=True)
        self._counts[purpose] = number + 1
        path = f"{folder}/{number:05d}.png"
        rng = Random(f"{self.seed}:{folder}:{scene}")
        content = draw(scene, rng, shading=shading, neutral=purpose == "neutral")
        (self._root / path).write_bytes(content)
        return path
