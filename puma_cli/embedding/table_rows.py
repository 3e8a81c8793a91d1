"""The rows of a `.jsonl`, `.csv` or `.parquet` table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.data.lines import line_starts
from puma_cli.data.pairs.tables import CsvTable, JsonlTable, Table, open_table
from puma_cli.data.pairs.tables import Row as Values
from puma_cli.embedding.rows import Broken, Item, Row
from puma_cli.embedding.starts import Start, line_start
from puma_cli.embedding.text_lines import count_lines
from puma_cli.errors import ConfigError, DataError

# What a column that holds it is usually called, in the order of preference.
_IDS = ("id", "_id", "did", "qid", "docid")
_TEXTS = ("text", "txt", "query_txt", "query", "caption", "content", "passage")
_IMAGES = ("image", "image_path", "img_path", "query_img_path", "img")
_INSTRUCTION = "instruction"
_ALL = "*"


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; None for what their usual names tell.

    Args:
        id: ids.
        text: texts.
        image: paths of images.
        metadata: columns that are carried along, `*` for all others.
        images: folder that paths are relative to; by default the table's own, or that of the M-BEIR
            data set that it belongs to.
    """

    id: str | None = None
    text: str | None = None
    image: str | None = None
    metadata: Sequence[str] = (_ALL,)
    images: Path | None = None


class TableRows:
    """The rows of one table.

    Args:
        path: the table.
        columns: which columns hold what.
        prefix: stands before a row's number in its id, where the table has no ids.
        skip_broken: give rows that cannot be read as broken, instead of raising why.

    Raises:
        DataError: the table is empty or broken.
        ConfigError: it has no such column.
    """

    def __init__(
        self, path: Path, columns: Columns, prefix: str = "", skip_broken: bool = False
    ) -> None:
        self.path, self._prefix, self._skip = path, prefix, skip_broken
        self._broken: list[Item] = []
        self._table = open_table(path, self._meet if skip_broken else None)
        self._base = columns.images or _base_of(path)
        self._id = self._find(columns.id, _IDS)
        self._text = self._find(columns.text, _TEXTS)
        self._image = self._find(columns.image, _IMAGES)
        if self._text is None and self._image is None:
            raise DataError(
                f"{path} has no column of texts or images that its name would tell.",
                cause=f"Its columns: {', '.join(self._table.columns)}.",
                hint="Name them with --text-column and --image-column.",
            )
        self._kept = self._metadata(columns.metadata)

    def count(self) -> int | None:
        """Return about how many rows there are."""
        if self._table.unit == "row":
            import pyarrow.parquet as pq

            with pq.ParquetFile(self.path) as file:
                return int(file.metadata.num_rows)
        return count_lines(self.path)

    def starts(self) -> Iterator[Start]:
        """Yield where each row begins; of a .csv, how many are before it."""
        if _is_lines(self._table):
            return line_starts(self.path)
        if self._table.unit == "row":
            return iter(range(self.count() or 0))
        return (number for number, _ in enumerate(self.items()))

    def items(self, start: Start = None) -> Iterator[Item]:
        """Yield the rows in order.

        Raises:
            DataError: a row is broken, or has neither a text nor an image.
        """
        if isinstance(start, int) and isinstance(self._table, CsvTable):
            # Where a record begins, only all before it can tell.
            yield from islice(self.items(), start, None)
            return
        self._broken.clear()
        named = [self._id, self._text, self._image, *self._kept]
        if _INSTRUCTION in self._table.columns:
            named.append(_INSTRUCTION)
        names = list(dict.fromkeys(name for name in named if name is not None))
        for number, values in self._rows(names, start):
            yield from self._taken()
            try:
                yield self._row(number, values)
            except DataError as error:
                if not self._skip:
                    raise
                yield Broken(f"{self.path}, {self._table.unit} {number}", error)
        yield from self._taken()

    def _rows(self, names: list[str], start: Start) -> Iterator[tuple[int, Values]]:
        table: Any = self._table
        if start is None:
            return self._table.rows(names)
        return table.rows(names, line_start(start) if _is_lines(self._table) else start)

    def _taken(self) -> list[Item]:
        found, self._broken = self._broken, []
        return found

    def _meet(self, number: int, error: DataError) -> None:
        self._broken.append(Broken(f"{self.path}, line {number}", error))

    def _find(self, asked: str | None, usual: Sequence[str]) -> str | None:
        there = self._table.columns
        if asked is None:
            return next((name for name in usual if name in there), None)
        if asked not in there:
            raise ConfigError(
                f"{self.path} has no column {asked!r}.", cause=f"It has {', '.join(there)}."
            )
        return asked

    def _metadata(self, asked: Sequence[str]) -> list[str]:
        used = {self._id, self._text, self._image, _INSTRUCTION}
        if _ALL in asked:
            return [name for name in _plain_columns(self._table) if name not in used]
        for name in asked:
            self._find(name, ())
        return list(asked)

    def _row(self, number: int, values: Values) -> Row:
        where = f"{self.path}, {self._table.unit} {number}"
        text = _text(values, self._text, where)
        image = _text(values, self._image, where)
        if text is None and image is None:
            raise DataError(f"{where} has neither a text nor an image.")
        own = None if self._id is None else values.get(self._id)
        # As given: what a table does not know of is told when it is read.
        place = None if image is None else (self._base / image).absolute()
        return Row(
            f"{self._prefix}{number}" if own is None else str(own),
            text,
            place,
            _text(values, _INSTRUCTION, where),
            {name: values[name] for name in self._kept if values.get(name) is not None},
        )


def _text(values: Mapping[str, Any], name: str | None, where: str) -> str | None:
    """Return the text in a column, None where it is empty."""
    value = None if name is None else values.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise DataError(f"{where} holds no text in {name!r} but {str(value)[:60]!r}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} holds half a character in {name!r}.", cause=str(error)) from error
    return value if value.strip() else None


def _base_of(path: Path) -> Path:
    """Return what a table's paths start from: its folder, or of an M-BEIR data set the set's."""
    rooms = (LAYOUT.pools, LAYOUT.queries)
    return next((up.parent for up in path.parents if up.name in rooms), path.parent)


def _is_lines(table: Table) -> bool:
    """Tell whether every line that is not blank is a row."""
    return isinstance(table, JsonlTable)


def _plain_columns(table: Table) -> list[str]:
    """Return the columns whose values are worth carrying: of parquet, no bytes and no records."""
    kinds = getattr(table, "plain_columns", None)
    return list(table.columns if kinds is None else kinds)
