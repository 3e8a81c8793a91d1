"""A file of texts, one a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from puma_cli.data.lines import line_starts, numbered_lines
from puma_cli.embedding.rows import Broken, Item, Row
from puma_cli.embedding.starts import Start, line_start
from puma_cli.errors import DataError

_CHUNK = 1 << 22


class TextLines:
    """The lines of a UTF-8 file; blank ones do not count.

    Args:
        path: the file, or something else that can be read once, such as `/dev/stdin`.
        prefix: stands before each line's number in its id.
        skip_broken: give lines that are no UTF-8 as broken, instead of raising why.
    """

    def __init__(self, path: Path, prefix: str = "", skip_broken: bool = False) -> None:
        self.path, self._prefix, self._skip = path, prefix, skip_broken

    def count(self) -> int | None:
        """Return about how many lines there are, or None of what can be read only once."""
        return count_lines(self.path)

    def starts(self) -> Iterator[Start]:
        """Yield where each line begins that counts."""
        return line_starts(self.path)

    def items(self, start: Start = None) -> Iterator[Item]:
        """Yield the lines in order.

        Raises:
            DataError: the file cannot be read, or a line is no UTF-8.
        """
        broken: list[Item] = []

        def meet(number: int, error: DataError) -> None:
            broken.append(Broken(f"{self.path}, line {number}", error))

        first = line_start(start)
        for number, line in numbered_lines(self.path, meet if self._skip else None, first):
            yield from broken
            broken.clear()
            text = line.strip()
            if text:
                yield Row(f"{self._prefix}{number}", text)
        yield from broken


def count_lines(path: Path) -> int | None:
    """Return how many lines a regular file has, or None of what is none."""
    if not path.is_file():
        return None
    lines, last = 0, b"\n"
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")
