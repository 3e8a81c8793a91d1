"""Lines of a text file with their numbers, each decoded on its own so that errors can name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from puma_cli.errors import DataError

_BOM = b"\xef\xbb\xbf"


# Where a line begins: how many bytes are before it, and its number.
LineStart = tuple[int, int]


def numbered_lines(
    path: Path,
    meet: Callable[[int, DataError], None] | None = None,
    start: LineStart = (0, 1),
) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file from number 1 on; a byte order mark is no part of the first.

    Lines end at line feeds alone: a text may hold other characters that some call line ends.

    Args:
        meet: takes the number and the error of a line that is no UTF-8, which is then left out.
        start: the line to begin with.

    Raises:
        DataError: the file is missing or cannot be read, or a line is no UTF-8.
    """
    offset, first = start
    with _explained(path), path.open("rb") as file:
        if offset:
            file.seek(offset)
        for number, raw in enumerate(file, start=first):
            try:
                line = (raw.removeprefix(_BOM) if number == 1 else raw).decode()
            except UnicodeDecodeError as error:
                told = _no_text(path, number, error)
                if meet is None:
                    raise told from error
                meet(number, told)
            else:
                yield number, line


def line_starts(path: Path) -> Iterator[LineStart]:
    """Yield where each line of a file begins that is not blank; those that are no UTF-8 are not.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    offset = 0
    with _explained(path), path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not _is_blank(raw.removeprefix(_BOM) if number == 1 else raw):
                yield offset, number
            offset += len(raw)


def _is_blank(raw: bytes) -> bool:
    start = raw.lstrip()[:1]
    # Most lines begin with a letter or a brace; only others need to be looked at as text.
    if b" " < start < b"\x7f":
        return False
    try:
        return not raw.decode().strip()
    except UnicodeDecodeError:
        return False


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"The file {path} is missing.") from error
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise DataError(f"The file {path} cannot be read.", cause=str(error)) from error


def _no_text(path: Path, number: int, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"{path}, line {number} is not UTF-8.",
        cause=str(error),
        hint="Save the file as UTF-8, and unpack it if it is compressed.",
    )
