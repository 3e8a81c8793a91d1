"""Lines of a text file with their numbers, each decoded on its own so that errors can name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from puma_cli.errors import DataError

_BOM = b"\xef\xbb\xbf"


def numbered_lines(
    path: Path, meet: Callable[[int, DataError], None] | None = None
) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file from number 1 on; a byte order mark is no part of the first.

    Lines end at line feeds alone: a text may hold other characters that some call line ends.

    Args:
        meet: takes the number and the error of a line that is no UTF-8, which is then left out.

    Raises:
        DataError: the file is missing or cannot be read, or a line is no UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    line = (raw.removeprefix(_BOM) if number == 1 else raw).decode()
                except UnicodeDecodeError as error:
                    told = _no_text(path, number, error)
                    if meet is None:
                        raise told from error
                    meet(number, told)
                else:
                    yield number, line
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
