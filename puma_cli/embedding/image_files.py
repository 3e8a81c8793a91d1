"""The images of a folder and of all folders below it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from puma_cli.embedding.rows import Item, Row, readable
from puma_cli.embedding.starts import Start
from puma_cli.errors import DataError

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".tga")
)


class ImageFolder:
    """Image files, told by their suffix; hidden files and folders are passed over.

    The names of one folder are in memory at a time.

    Args:
        folder: where they are, or one image file.
        prefix: stands before each one's path in its id.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.folder, self._prefix = folder, prefix

    def count(self) -> int | None:
        """Return how many there are.

        Raises:
            DataError: there is none, or a folder cannot be read.
        """
        found = sum(1 for _ in self._paths(self.folder))
        if not found:
            raise self._none()
        return found

    def starts(self) -> Iterator[Start]:
        """Yield the path of each image in the folder.

        Raises:
            DataError: there is none, or a folder cannot be read.
        """
        found = False
        for path in self._paths(self.folder):
            found = True
            yield os.path.relpath(path, self.folder)
        if not found:
            raise self._none()

    def items(self, start: Start = None) -> Iterator[Item]:
        """Yield the images in the order of their names; each one's id is its path in the folder.

        Raises:
            DataError: there is none, or a folder cannot be read.
        """
        found = False
        steps = Path(start).parts if isinstance(start, str) else ()
        base = self.folder.parent if self.folder.is_file() else self.folder
        for path in self._paths(self.folder, steps):
            found = True
            name = readable(os.path.relpath(path, base))
            yield Row(f"{self._prefix}{name}", image=path.absolute())
        if not found:
            raise self._none()

    def _none(self) -> DataError:
        return DataError(
            f"{self.folder} holds no images.",
            cause=f"Files are told by their suffix: {', '.join(sorted(SUFFIXES))}.",
            hint="Name the folder that the images are in.",
        )

    def _paths(self, folder: Path, start: Sequence[str] = ()) -> Iterator[Path]:
        """Yield the images below a folder, from the one on that `start` leads to."""
        if folder.is_file():
            yield folder
            return
        try:
            with os.scandir(folder) as entries:
                names = sorted(
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in entries
                    if not entry.name.startswith(".")
                    and (entry.is_dir(follow_symlinks=False) or is_image(entry.name))
                )
        except OSError as error:
            raise DataError(f"The folder {folder} cannot be read.", cause=str(error)) from error
        for name, is_folder in names:
            if start and name < start[0]:
                continue
            path = folder / name
            if is_folder:
                yield from self._paths(path, start[1:] if start and name == start[0] else ())
            else:
                yield path


def is_image(name: str) -> bool:
    """Tell whether a file is called as images are."""
    return Path(name).suffix.lower() in SUFFIXES


def holds_image(folder: Path) -> bool:
    """Tell whether there is an image directly in a folder."""
    with os.scandir(folder) as entries:
        return any(is_image(entry.name) and not entry.name.startswith(".") for entry in entries)
