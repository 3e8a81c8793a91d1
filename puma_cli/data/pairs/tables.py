"""Rows of a table, whatever its format, each with the line or row it stands in."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from puma_cli.data.lines import LineStart, numbered_lines
from puma_cli.errors import DataError

Row = Mapping[str, Any]
Meet = Callable[[int, DataError], None]
# Lines of a jsonl file that tell its columns; keys that only later lines have are noticed there.
_HEAD = 1_000


class Table(Protocol):
    """A file of rows.

    Args:
        path: where it is.
        unit: what its rows are counted in, `line` or `row`, from 1.
        columns: the names of its columns; a jsonl file may have more further down.
    """

    path: Path
    unit: str
    columns: tuple[str, ...]

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """Yield each row's number and its values, at least those of the columns `names`.

        Raises:
            DataError: the file or a row of it is broken.
        """
        ...


def open_table(path: Path, meet: Meet | None = None) -> Table:
    """Open a `.jsonl`, `.csv` or `.parquet` file.

    Args:
        meet: takes the number and the error of a row that cannot be read, which is then left out;
            of a parquet file, no row can be read alone.

    Raises:
        DataError: it is empty, cannot be read, or is not what its name says.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        # Imported here, since no other format needs it.
        from puma_cli.data.pairs.parquet import ParquetTable

        return ParquetTable(path)
    return CsvTable(path, meet) if suffix == ".csv" else JsonlTable(path, meet)


class JsonlTable:
    """One JSON object a line; empty lines do not count."""

    unit = "line"

    def __init__(self, path: Path, meet: Meet | None = None) -> None:
        self.path = path
        # What is broken in the first lines is told when they are read in earnest.
        self._meet: Meet | None = None if meet is None else _forget
        names: dict[str, None] = {}
        for _, row in islice(self.rows(()), _HEAD):
            names |= dict.fromkeys(row)
        self._meet = meet
        self.columns = tuple(names)
        if not names:
            raise _empty(path)

    def rows(self, names: Sequence[str], start: LineStart = (0, 1)) -> Iterator[tuple[int, Row]]:
        """Yield the objects as they are, from the line on that begins at `start`."""
        for number, line in numbered_lines(self.path, self._meet, start):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("It is no JSON object.")
            except (ValueError, RecursionError) as error:
                told = DataError(
                    f"{self.path}, line {number} is broken: {line.strip()[:80]!r}.",
                    cause=str(error),
                )
                if self._meet is None:
                    raise told from error
                self._meet(number, told)
            else:
                yield number, row


class CsvTable:
    """Comma-separated values under a line of names, as RFC 4180 has them."""

    unit = "line"

    def __init__(self, path: Path, meet: Meet | None = None) -> None:
        self.path = path
        self._meet = meet
        header = next(self._records(), None)
        if header is None:
            raise _empty(path)
        self.columns = tuple(name.strip() for name in header[1])
        twice = {name for name in self.columns if name and self.columns.count(name) > 1}
        if twice:
            raise DataError(f"{path} has two columns {min(twice)!r}.", hint="Rename one of them.")

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """Yield the lines under the header; a record over several counts as its first."""
        width = len(self.columns)
        for number, fields in islice(self._records(), 1, None):
            if len(fields) != width:
                told = DataError(
                    f"{self.path}, line {number} has {len(fields)} fields, not {width}.",
                    cause=f"The columns are {', '.join(self.columns)}.",
                    hint="A text with a comma, a quotation mark or a line break in it stands in "
                    'quotation marks, and a quotation mark in it is doubled: "a ""b"", c".',
                )
                if self._meet is None:
                    raise told
                self._meet(number, told)
                continue
            yield number, dict(zip(self.columns, fields, strict=True))

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        quotes = 0

        def lines() -> Iterator[str]:
            nonlocal quotes
            for _, line in numbered_lines(self.path, self._meet):
                quotes += line.count('"')
                yield line

        # Strict, or a quotation mark that is never closed would swallow what follows.
        reader = csv.reader(lines(), strict=True)
        number = 1
        try:
            for fields in reader:
                # One that only ends a text would be taken for a part of it.
                if quotes % 2:
                    raise csv.Error("its number of quotation marks is odd")
                if fields:
                    yield number, fields
                number, quotes = reader.line_num + 1, 0
        except csv.Error as error:
            raise DataError(
                f"{self.path}, line {number} is broken.",
                cause=str(error),
                hint="Is a quotation mark missing, or not doubled within a text?",
            ) from error


def _forget(number: int, error: DataError) -> None:
    pass


def _empty(path: Path) -> DataError:
    return DataError(f"{path} is empty.", hint="Give a table of pairs.")
