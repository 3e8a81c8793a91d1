"""A folder in the layout of MMEB's evaluation data: a table for each data set, and images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from puma_cli.data.mmeb.images import MmebImages
from puma_cli.data.mmeb.rows import INSTRUCTION_COLUMNS, QUERY_COLUMNS, MmebRow, read_row
from puma_cli.data.pairs.parquet import ParquetTable
from puma_cli.data.pairs.tables import JsonlTable, Meet, Table
from puma_cli.errors import DataError, ImageError
from puma_cli.models.inputs import Input
from puma_cli.models.looking import look_at

_SPLIT = "test"
_TABLE = re.compile(rf"{_SPLIT}(-\d{{5}}-of-\d{{5}}(-\w+)?)?\.(parquet|jsonl)")
# A row may hold a thousand candidates.
_ROWS = 128


@dataclass(frozen=True)
class MmebSet:
    """One data set: Q queries, each with its own candidates, the right one first.

    Args:
        numbers: the row of each query, from 1.
        candidates: the distinct candidates of all rows.
        own: for each query the places of its candidates among them; one may come twice.
        instructed: whether it is of the second form, with instructions beside the texts.
        empty: how many wrong candidates are empty texts.
    """

    name: str
    queries: tuple[Input, ...]
    numbers: tuple[int, ...]
    candidates: tuple[Input, ...]
    own: tuple[NDArray[np.int32], ...]
    instructed: bool
    empty: int


class MmebFolder:
    """Reads a folder of MMEB, or one of its data sets.

    Args:
        root: the folder with a sub-folder for each data set.
        images: folder or zip archive of the images; by default those beside the tables.
        skip_rows: leave broken rows out, and count them in `skipped`.
        skip_images: leave out candidates whose image cannot be read, and rows that lose their query
            or answer so, and count the images in `skipped`.
        meet: takes where a row stands that is broken, and its error; the row is then left out.

    Raises:
        DataError: it is missing, or has another layout.
    """

    def __init__(
        self,
        root: Path,
        images: Path | None = None,
        skip_rows: bool = False,
        skip_images: bool = False,
        meet: Callable[[str, DataError], None] | None = None,
    ) -> None:
        self.root = root
        self._files = _tables_of(root)
        if not self._files:
            raise DataError(
                f"{root} is not in the layout of MMEB."
                if root.exists()
                else f"The data folder {root} does not exist.",
                cause="It needs a sub-folder for each data set, with a table such as "
                f"ImageNet-1K/{_SPLIT}-00000-of-00001.parquet.",
                hint="puma eval MODEL --mmeb TIGER-Lab/MMEB-eval fetches it.",
            )
        self.skipped: Counter[str] = Counter()
        self._images = MmebImages(root, images)
        self._skip_images = skip_images
        self._meet = self._count if skip_rows else meet
        self._bad: dict[Path, bool] = {}

    @property
    def names(self) -> list[str]:
        """Names of the data sets."""
        return list(self._files)

    def files(self, name: str) -> list[Path]:
        """Return the tables of a data set."""
        return self._files[name]

    def select(self, pattern: str) -> list[str]:
        """Return the data sets whose names match comma-separated globs.

        Raises:
            DataError: none does.
        """
        globs = [glob.strip() for glob in pattern.split(",")]
        chosen = [name for name in self.names if any(fnmatchcase(name, glob) for glob in globs)]
        if not chosen:
            raise DataError(
                f"No data set matches {pattern!r}.", hint=f"There are: {', '.join(self.names)}."
            )
        return chosen

    def image_name(self, path: Path | None) -> str | None:
        """Return what the tables call an image, wherever it was found."""
        return None if path is None else self._images.names.get(path, path.name)

    def read(self, name: str) -> MmebSet:
        """Read one data set; images that lie in an archive are unpacked.

        Raises:
            DataError: a table or a row of it is broken, or it has no rows.
        """
        places: dict[Input, int] = {}
        queries, numbers, own = [], [], []
        instructed, empty = False, 0
        for number, row, told in self.rows(name):
            instructed |= told
            empty += sum(entry == Input(text="") for entry in row.candidates)
            queries.append(row.query)
            numbers.append(number)
            found = [places.setdefault(entry, len(places)) for entry in row.candidates]
            own.append(np.array(found, dtype=np.int32))
        if not queries:
            raise DataError(f"The data set {name} of {self.root} has no rows.")
        return MmebSet(
            name, tuple(queries), tuple(numbers), tuple(places), tuple(own), instructed, empty
        )

    def rows(self, name: str) -> Iterator[tuple[int, MmebRow, bool]]:
        """Yield the rows of a data set with their numbers, and whether they have instructions.

        Raises:
            DataError: a table or a row is broken.
        """
        before = 0
        for path in self._files[name]:
            table = _open(path, self._meet_line(path))
            missing = [column for column in QUERY_COLUMNS if column not in table.columns]
            if missing:
                raise DataError(
                    f"{path} has no column {missing[0]!r}.",
                    cause=f"Its columns: {', '.join(map(repr, table.columns))}.",
                )
            instructions = [each for each in INSTRUCTION_COLUMNS if each in table.columns]
            number = 0
            for number, row in table.rows([*QUERY_COLUMNS, *instructions]):
                try:
                    read = self._readable(read_row(row, self._find))
                except (ValueError, KeyError, ImageError) as error:
                    self._leave_out(error, f"{path}, {table.unit} {number}")
                else:
                    if read is not None:
                        yield before + number, read, bool(instructions)
            before += number

    def _meet_line(self, path: Path) -> Meet | None:
        meet = self._meet
        if meet is None:
            return None
        return lambda number, error: meet(f"{path}, line {number}", error)

    def _count(self, where: str, error: DataError) -> None:
        if isinstance(error, ImageError):
            raise error from error.__cause__
        self.skipped["rows"] += 1

    def _leave_out(self, error: Exception, where: str) -> None:
        if isinstance(error, ImageError):
            told: DataError = ImageError(
                error.problem,
                cause=f"It is named in {where}. {error.cause}".strip(),
                hint=error.hint or "To leave out what shows it: --bad-images skip",
                path=error.path,
            )
        else:
            said = f"has no key {error}" if isinstance(error, KeyError) else "is broken"
            told = DataError(
                f"{where} {said}.",
                cause=f"{error}.",
                hint="To leave such rows out: --bad-rows skip",
            )
        if self._meet is None:
            raise told from error
        told.__cause__ = error
        self._meet(where, told)

    def _find(self, name: str) -> Path:
        try:
            return self._images.find(name)
        except ImageError:
            if not self._skip_images:
                raise
            # It cannot be seen; what shows it is left out with what else cannot.
            return Path(name)

    def _readable(self, row: MmebRow) -> MmebRow | None:
        """Return the row without candidates that cannot be seen; None if too little is left."""
        if not self._skip_images:
            return row
        kept = tuple(entry for entry in row.candidates if self._can_be_seen(entry))
        if not self._can_be_seen(row.query) or len(kept) < 2 or kept[0] != row.candidates[0]:
            self.skipped["rows"] += 1
            return None
        return MmebRow(row.query, kept)

    def _can_be_seen(self, entry: Input) -> bool:
        if entry.image is None:
            return True
        bad = self._bad.get(entry.image)
        if bad is None:
            bad = False
            try:
                look_at(entry.image, "decoded")
            except ImageError:
                bad = True
                self.skipped["images"] += 1
            self._bad[entry.image] = bad
        return not bad


def is_mmeb(path: Path) -> bool:
    """Tell whether a folder holds tables of MMEB, by their names and columns."""
    files = _tables_of(path)
    if not files:
        return False
    try:
        columns = _open(next(iter(files.values()))[0]).columns
    except DataError:
        return False
    return {"qry_text", "tgt_text"} <= set(columns)


def _tables_of(root: Path) -> dict[str, list[Path]]:
    """Return the tables of each data set; `root` may be one itself."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*root.glob("*/*.*"), *root.glob("*.*")]):
        if _TABLE.fullmatch(path.name) and path.is_file():
            found.setdefault(path.resolve().parent.name, []).append(path)
    return found


def _open(path: Path, meet: Meet | None = None) -> Table:
    return ParquetTable(path, _ROWS) if path.suffix == ".parquet" else JsonlTable(path, meet)
