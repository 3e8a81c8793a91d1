"""The image files that a data set names, each looked at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from puma_cli.data.check.hashes import Hashes, hash_of, is_in
from puma_cli.errors import ImageError
from puma_cli.models.looking import look_at

# So many lines' images are gathered before they are looked up among those already seen.
_LINES = 50_000


class ImageCheck:
    """Looks at images.

    Args:
        look: `decoded` reads all pixels, `headers` what comes before them, `not` nothing.
    """

    def __init__(self, look: str) -> None:
        self.look = look
        self._seen: Hashes = np.empty(0, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._seen)

    def of_file(self, tell: Callable[[int, ImageError], None]) -> OfFile:
        """Return what takes in the images that one file names.

        Args:
            tell: takes the line and the error of an image that cannot be used.
        """
        return OfFile(self, tell)

    def new(self, hashes: Hashes) -> Hashes:
        """Return those of some hashes that were never seen before, and remember them."""
        distinct = np.unique(hashes)
        fresh = distinct[~is_in(distinct, self._seen)]
        self._seen = np.union1d(self._seen, fresh)
        return fresh


class OfFile:
    """The images of one file; close it when all are in."""

    def __init__(self, check: ImageCheck, tell: Callable[[int, ImageError], None]) -> None:
        self._check, self._tell = check, tell
        self._waiting: dict[int, tuple[int, Path]] = {}
        self._distinct: Hashes = np.empty(0, dtype=np.uint64)

    def add(self, image: Path, line: int) -> None:
        """Take in an image that a line names."""
        self._waiting.setdefault(hash_of(str(image)), (line, image))
        if len(self._waiting) >= _LINES:
            self._look()

    def close(self) -> Hashes:
        """Look at what is left, and return the distinct images of the file, sorted."""
        self._look()
        return self._distinct

    def _look(self) -> None:
        hashes = np.array(list(self._waiting), dtype=np.uint64)
        for number in self._check.new(hashes).tolist():
            line, image = self._waiting[number]
            try:
                look_at(image, self._check.look)
            except ImageError as error:
                self._tell(line, error)
        self._distinct = np.union1d(self._distinct, hashes)
        self._waiting.clear()
