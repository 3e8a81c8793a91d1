"""The log of a training: a line of JSON for every step that is worth one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from puma_cli.checkpoint.output_folder import explained_writes, write_text

Row = dict[str, float]


class TrainingLog:
    """A file of one JSON object a line, each with a `step` and numbers by name.

    Args:
        path: the file; it appears with its first line.
        writes: whether this process is the one that writes it.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self._writes = path, writes

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line.

        Raises:
            OutputError: the disk is full or refuses.
        """
        if not self._writes:
            return
        with explained_writes(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def rewind(self, step: int) -> None:
        """Take away the lines after `step`, where a training goes on from.

        A run that was killed has logged steps past its last saved state. They are about to be
        computed again: left in, the log would hold some steps twice, with times that run backwards.

        Raises:
            OutputError: the disk is full or refuses.
        """
        if not self.path.is_file():
            return
        kept = [row for row in read_log(self.path) if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        if text != self.path.read_text(encoding="utf-8"):
            write_text(self.path, text)


def read_log(path: Path) -> list[Row]:
    """Return the lines of a log in their order; one that was cut off is left out.

    A log that is not there has no lines.
    """
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            # The last line of a run that was killed while it wrote.
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
