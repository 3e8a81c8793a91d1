"""From a path in a table to an image file that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from puma_cli.data.pairs.incomplete import NO_IMAGE, IncompleteError


class Images:
    """Finds the images of one table, each looked for once.

    Paths are relative to the first of `folders` that has the first image of the table.

    Args:
        folders: where to look, in this order.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(dict.fromkeys(folders))
        self._chosen: Path | None = None
        self._found: dict[str, Path] = {}

    def find(self, name: str) -> Path:
        """Return the path of the image `name`.

        Raises:
            IncompleteError: it is not there.
        """
        path = self._found.get(name)
        if path is None:
            path = self._found[name] = self._look(name)
        return path

    def _look(self, name: str) -> Path:
        for folder in [self._chosen] if self._chosen else self._folders:
            path = folder / name
            if path.is_file():
                self._chosen = folder
                return path
        raise IncompleteError(NO_IMAGE, f"The image {name} is not there.", self._hint(name))

    def _hint(self, name: str) -> str:
        if name.startswith(("http://", "https://")):
            return "Download the images, and write their paths to the column."
        for folder in self._folders:
            archives = sorted([*folder.glob("*.zip"), *folder.glob("*/*.zip")])
            if archives:
                # MMEB's archives hold SET/..., its tables say images/SET/...
                parts = Path(name).parts
                into = folder / parts[0] if len(parts) > 2 else folder
                archive = next((each for each in archives if each.stem in parts), archives[0])
                return f"Images are not read from archives: unzip -d {into} {archive}"
        places = ", ".join(str(folder) for folder in self._folders)
        return f"Looked in {places}. Another folder: --set pairs.images=FOLDER"
