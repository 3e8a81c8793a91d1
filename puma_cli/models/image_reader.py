"""From image files to what a vision tower takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from puma_cli.errors import DataError, ImageError
from puma_cli.models.augmentation import random_view
from puma_cli.models.decoding import decoded, read_encoded, size_of
from puma_cli.models.recently_used import RecentlyUsed

if TYPE_CHECKING:
    from puma_cli.models.image_workers import ImageWorkers

PIXEL_CACHE_BYTES = 1 << 30
FILE_CACHE_BYTES = 256 << 20
COUNT_CACHE_ENTRIES = 1_000_000
# What is seen in place of an image that cannot be read: width and height.
STAND_IN = (28, 28)
# An image as the vision tower takes it: flattened patches (P, C), and their grid (3).
Pixels = tuple[np.ndarray, tuple[int, ...]]


class ImageReader:
    """Reads images; training comes back to the same ones, so it remembers what fits.

    The pixels of recent images stay in memory, and the small encoded files of many more, since
    reading them singly can cost more than a step.

    With `stands_in`, an image that cannot be read is a white square from then on, and is noted in
    `unreadable`, so that what it was to teach can be left out.

    Args:
        image_processor: a Qwen2-VL image processor.
    """

    def __init__(self, image_processor: Any) -> None:
        self.stands_in = False
        self.unreadable: dict[Path, DataError] = {}
        self.workers: ImageWorkers | None = None
        """Processes that decode images ahead, while there are some."""
        self._image_processor = image_processor
        self._pixels: RecentlyUsed[Pixels] = RecentlyUsed(PIXEL_CACHE_BYTES)
        self._files: RecentlyUsed[bytes] = RecentlyUsed(FILE_CACHE_BYTES)
        self._counts: RecentlyUsed[int] = RecentlyUsed(COUNT_CACHE_ENTRIES)

    def pixels_of(self, shown: Sequence[tuple[Path, int | None]]) -> list[Pixels]:
        """Return the patches of images, each with the seed of its view or None.

        Raises:
            DataError: an image is missing or cannot be decoded.
        """
        # A random view comes but once, so only plain images are worth remembering.
        found = {key: self._pixels.get(key[0]) for key in shown if key[1] is None}
        new = [key for key in dict.fromkeys(shown) if found.get(key) is None]
        # Together, since what the image processor does around an image takes as long as the image.
        images = [self._open(path, view) for path, view in new]
        for key, entry in zip(new, self._processed(images, [path for path, _ in new]), strict=True):
            found[key] = entry
            if key[1] is None:
                self._pixels.put(key[0], entry, entry[0].nbytes)
        return [entry for entry in (found[key] for key in shown) if entry is not None]

    def patches_of(self, path: Path) -> int:
        """Return how many patches an image will have, from its header alone.

        Raises:
            DataError: the image is missing or its header cannot be read.
        """
        count = self._counts.get(path)
        if count is None:
            try:
                count = self._count(path)
            except DataError as error:
                self._give_up(path, error)
                count = self._patches(*STAND_IN)
            self._counts.put(path, count, 1)
        return count

    def _count(self, path: Path) -> int:
        return self._patches(*size_of(self._encoded(path), path))

    def _patches(self, width: int, height: int) -> int:
        return int(self._image_processor.get_number_of_image_patches(height, width))

    def _give_up(self, path: Path, error: DataError) -> None:
        """Note an image that cannot be read, or raise why."""
        if not self.stands_in:
            raise error
        self.unreadable.setdefault(path, error)

    def _encoded(self, path: Path) -> bytes:
        encoded = self._files.get(path)
        if encoded is None:
            encoded = read_encoded(path)
            self._files.put(path, encoded, len(encoded))
        return encoded

    def _open(self, path: Path, view: int | None) -> Image.Image:
        if path in self.unreadable:
            return Image.new("RGB", STAND_IN, "white")
        workers = self.workers if view is None else None
        ready = None if workers is None else workers.take(path)
        if ready is not None:
            return ready
        try:
            image = decoded(self._encoded(path), path)
        except DataError as error:
            self._give_up(path, error)
            return self._open(path, view)
        return _on_white(image) if view is None else random_view(image, view)

    def _processed(self, images: Sequence[Image.Image], paths: Sequence[Path]) -> list[Pixels]:
        if not images:
            return []
        try:
            out = self._image_processor(images=list(images), return_tensors="np")
        except ValueError as error:  # sides in a ratio of more than 200, for one
            if len(images) == 1:
                problem = f"The image {paths[0]} cannot be used."
                why = ImageError(problem, cause=str(error), path=paths[0])
                self._give_up(paths[0], why)
                return self._processed([self._open(paths[0], None)], paths)
            # Which one it is shows when each comes alone.
            pairs = zip(images, paths, strict=True)
            return [entry for image, path in pairs for entry in self._processed([image], [path])]
        grids = [tuple(int(n) for n in grid) for grid in out["image_grid_thw"]]
        ends = np.cumsum([int(np.prod(grid)) for grid in grids])
        rows = np.split(np.asarray(out["pixel_values"], dtype=np.float32), ends[:-1])
        # Each a copy of its own: a view would keep all the others in memory.
        return [(own.copy(), grid) for own, grid in zip(rows, grids, strict=True)]


def open_image(path: Path) -> Image.Image:
    """Return an image as RGB, on white where it is transparent.

    Raises:
        DataError: it is missing or cannot be decoded.
    """
    return _on_white(decoded(read_encoded(path), path))


def _on_white(image: Image.Image) -> Image.Image:
    # Transparent pixels hide arbitrary colours.
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
