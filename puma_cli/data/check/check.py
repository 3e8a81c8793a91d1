"""`puma data check`: whether a data set is whole, whatever its layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.data.check.hashes import Column
from puma_cli.data.check.images import ImageCheck
from puma_cli.data.check.mbeir import check_mbeir
from puma_cli.data.check.report import CheckReport, Faults, FileCount, TaskCount
from puma_cli.data.layouts import MBEIR, MMEB, tell_layout
from puma_cli.data.mmeb.folder import MmebFolder
from puma_cli.data.pairs.files import find_tables, pair_files
from puma_cli.data.pairs.reading import PairReader
from puma_cli.errors import ConfigError, DataError, ImageError
from puma_cli.models.looking import LOOKS
from puma_cli.progress import SILENT, Reporter


def check_data(
    data: Path | str,
    *,
    look: str = "headers",
    limit: int = 100,
    images: Path | None = None,
    reporter: Reporter = SILENT,
) -> CheckReport:
    """Check a data set: every file, line, id, image and qrel.

    Args:
        data: a folder in the M-BEIR layout or MMEB's, a table of pairs, or a folder of tables.
        look: how images are looked at: `decoded` for all pixels, `headers`, or `not`.
        limit: how many faults are kept (>= 0); all are counted.
        images: where the images of MMEB or of pairs are, if not beside the tables.

    Raises:
        ConfigError: `look` or `limit` is no such value.
        DataError: there is no such data set.
    """
    if look not in LOOKS or limit < 0:
        raise ConfigError(
            f"look = {look}, limit = {limit} is not possible.",
            hint=f"Looks are {', '.join(LOOKS)}; a limit is at least 0.",
        )
    path = Path(data)
    layout = tell_layout(path)
    if layout == MBEIR:
        return check_mbeir(path, look, limit, reporter)
    check = _TableCheck(path, layout, ImageCheck(look), Faults(limit))
    if layout == MMEB:
        check.mmeb(images, reporter)
    else:
        check.pairs(images, reporter)
    return check.report()


class _TableCheck:
    """Checks tables, a row at a time."""

    def __init__(self, path: Path, layout: str, images: ImageCheck, faults: Faults) -> None:
        self._path, self._layout = path, layout
        self._images, self._faults = images, faults
        self._files: list[FileCount] = []
        self._tasks: list[TaskCount] = []

    def report(self) -> CheckReport:
        return CheckReport(
            root=str(self._path),
            layout=self._layout,
            files=tuple(self._files),
            tasks=tuple(self._tasks),
            images=len(self._images),
            looked=self._images.look,
            faults=tuple(self._faults.kept),
            kinds=dict(self._faults.kinds),
        )

    def mmeb(self, images: Path | None, reporter: Reporter) -> None:
        """Check every data set of a folder of MMEB."""
        folder = MmebFolder(self._path, images, meet=self._meet)
        for name in reporter.track(folder.names, "data sets", total=len(folder.names)):
            before = self._faults.total
            looked = self._images.of_file(self._tell(name))
            rows, shown = 0, Column()
            try:
                for number, row, _ in folder.rows(name):
                    rows += 1
                    for entry in (row.query, *row.candidates):
                        if entry.image is not None:
                            looked.add(entry.image, number)
                    for entry in row.candidates:
                        shown.add(repr((entry.text, entry.image)), number)
            except DataError as error:
                self._faults.add("unreadable file", name, str(error))
            pictures = looked.close()
            distinct = len(np.unique(shown.hashes))
            self._tasks.append(TaskCount("test", name, rows, distinct, rows, len(pictures)))
            self._files.append(FileCount(name, rows, self._faults.total - before))

    def pairs(self, images: Path | None, reporter: Reporter) -> None:
        """Check every table of pairs, of whatever split."""
        settings = PairsSettings(images=images)
        root = self._path if self._path.is_dir() else self._path.parent
        reader = PairReader(settings, root, self._meet)
        files = find_tables(self._path)
        for path in reporter.track(files, "tables", total=len(files)):
            before = self._faults.total
            name = self._shown(str(path))
            looked = self._images.of_file(self._tell(name))
            queries, answers, rows = Column(), Column(), 0
            try:
                for pair in reader.pairs(pair_files(path)[0]):
                    rows += 1
                    number = int(reader.place.rpartition(" ")[2])
                    queries.add(repr((pair.query, pair.instruction)), number)
                    for shown in (*pair.positives, *pair.negatives):
                        answers.add(repr(shown), number)
                    for _, image in (pair.query, *pair.positives, *pair.negatives):
                        if image is not None:
                            looked.add(image, number)
            except (DataError, ConfigError) as error:
                self._faults.add("unreadable file", name, str(error))
            pictures = looked.close()
            asked, answer = (len(np.unique(each.hashes)) for each in (queries, answers))
            self._tasks.append(TaskCount("", name, asked, answer, rows, len(pictures)))
            self._files.append(FileCount(name, rows, self._faults.total - before))

    def _meet(self, where: str, error: DataError) -> None:
        said = str(error).removeprefix(where).strip()
        kind = "missing image" if isinstance(error, ImageError) else "broken row"
        self._faults.add(kind, self._shown(where), said)

    def _tell(self, name: str) -> Callable[[int, ImageError], None]:
        def tell(number: int, error: ImageError) -> None:
            self._faults.add("broken image", f"{name}, row {number}", str(error))

        return tell

    def _shown(self, where: str) -> str:
        root = self._path if self._path.is_dir() else self._path.parent
        return where.removeprefix(f"{root}/")
