"""Training data from tables of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import TaskName, is_asked_for
from puma_cli.data.pairs.collection import Collection, task_of
from puma_cli.data.pairs.files import PairFile, pair_files
from puma_cli.data.pairs.held_out import HeldOut, hold_out
from puma_cli.data.pairs.images import Images
from puma_cli.data.pairs.incomplete import IncompleteError
from puma_cli.data.pairs.roles import Roles, find_roles
from puma_cli.data.pairs.rows import Pair, read_pair
from puma_cli.data.pairs.tables import open_table
from puma_cli.data.records import TASK_MODALITIES, Candidate, Query
from puma_cli.errors import DataError
from puma_cli.progress import SILENT, Reporter


@dataclass(frozen=True)
class PairData:
    """What tables of pairs hold, as `puma_cli.data.training_data.TrainingData` has it."""

    queries: list[Query]
    tasks: list[TaskName]
    pool: list[Candidate]
    instructions: Instructions
    validation: HeldOut | None


def read_pairs(
    path: Path,
    settings: PairsSettings,
    tasks: str = "*",
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> PairData:
    """Read a table of pairs, or all tables of a folder.

    Each row is a query to train on; rows that ask the same know one another's positives, and each
    distinct text and image file is one candidate.

    Args:
        tasks: comma-separated globs over names of data sets, or of tasks such as `shop_task1`.
        seed: seed of the draw of held-out queries.

    Raises:
        ConfigError: columns are named in part only.
        DataError: a table or a row is broken, or nothing is left to train on.
    """
    files = pair_files(path, settings.split)
    chosen = [
        file for file in files if any(is_asked_for(t, tasks) for t in _tasks_of(file.dataset))
    ]
    if not chosen:
        names = ", ".join(dict.fromkeys(file.dataset for file in files))
        raise DataError(f"No data set matches {tasks!r}.", hint=f"The data sets are: {names}.")
    collection = Collection(dict.fromkeys(file.dataset for file in chosen), settings.prompt)
    reader = PairReader(settings, path if path.is_dir() else path.parent)
    for file in reporter.track(chosen, "tables", total=len(chosen)):
        asked = [task for task in _tasks_of(file.dataset) if is_asked_for(task, tasks)]
        by_number = {task.task_id: task for task in asked}
        for pair in reader.pairs(file):
            task = by_number.get(task_of(pair))
            if task is not None:
                collection.add(pair, task)
    if not collection.queries:
        raise DataError(
            f"No pair is left of {path}.", cause=reader.skipped or f"None is of {tasks!r}."
        )
    collection.close()
    queries, validation = hold_out(
        collection, reader.root, settings.validation or 0, settings.validation_pool, seed
    )
    reporter.note(" ".join(filter(None, (_summary(collection, validation), reader.skipped))))
    for roles in reader.roles:
        reporter.note(f"Columns: {roles}.")
    used = {did for query in queries for did in (*query.relevant, *query.negatives)}
    pool = [candidate for candidate in collection.candidates if candidate.did in used]
    asked_of = [collection.task_name(query) for query in queries]
    return PairData(queries, asked_of, pool, Instructions(), validation)


class PairReader:
    """Reads the pairs of files, and counts what it leaves out.

    Args:
        root: the folder of the data.
        meet: takes where a row stands that is broken or incomplete, and its error; the row is then
            left out, whatever the settings say.

    Attributes:
        place: where the pair stands that was read last, as `FILE, line N`.
        left_out: numbers of rows that were left out, by what they lack.
    """

    def __init__(
        self,
        settings: PairsSettings,
        root: Path,
        meet: Callable[[str, DataError], None] | None = None,
    ) -> None:
        self.root = root
        self._meet = meet
        self.place = ""
        self.roles: dict[Roles, None] = {}
        self._settings = settings
        self.left_out: Counter[str] = Counter()

    @property
    def skipped(self) -> str:
        """How many rows were left out, and what they lack; empty if none was."""
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self.left_out.items())
        return f"Incomplete rows were left out: {counts}." if counts else ""

    def pairs(self, file: PairFile) -> Iterator[Pair]:
        """Yield the pairs of one table.

        Raises:
            DataError: the table is broken, or a row is and must not be left out.
        """

        def meet(number: int, error: DataError) -> None:
            assert self._meet is not None
            self._meet(f"{file.path}, line {number}", error)

        table = open_table(file.path, None if self._meet is None else meet)
        own = self._settings.images
        # Of a folder such as MMEB's, one data set may be given alone.
        usual = [file.path.parent, self.root, self.root.parent]
        images = Images(usual if own is None else [own])
        columns = dict.fromkeys(table.columns)
        roles = find_roles(table.columns, self._settings, file.path)
        number = 0
        for number, row in table.rows(roles.columns):
            if not row.keys() <= columns.keys():
                columns |= dict.fromkeys(row)
                roles = find_roles(tuple(columns), self._settings, file.path)
            try:
                pair = read_pair(row, roles, images.find)
            except IncompleteError as error:
                self._leave_out(error, f"{file.path}, {table.unit} {number}")
            except (ValueError, OSError) as error:
                where = f"{file.path}, {table.unit} {number}"
                told = DataError(f"{where} is broken.", cause=str(error))
                if self._meet is None:
                    raise told from error
                self._meet(where, told)
            else:
                self.place = f"{file.path}, {table.unit} {number}"
                yield pair
        if not number:
            raise DataError(f"{file.path} has a line of names but no rows.")
        self.roles[roles] = None

    def _leave_out(self, error: IncompleteError, where: str) -> None:
        otherwise = "To leave such rows out: --set pairs.incomplete=skip"
        told = DataError(
            f"{where} is incomplete.",
            cause=str(error),
            hint="\n".join(line for line in (error.hint, otherwise) if line),
        )
        if self._meet is not None:
            self._meet(where, told)
            return
        if self._settings.incomplete == "refuse":
            raise told from error
        self.left_out[error.kind] += 1


def _summary(collection: Collection, validation: HeldOut | None) -> str:
    tasks = len({collection.task_name(query) for query in collection.queries})
    held_out = 0 if validation is None else sum(map(len, validation.asked.values()))
    return (
        f"{len(collection.queries):,} pairs of {tasks} task{'s' if tasks > 1 else ''}, "
        f"{held_out:,} queries held out."
    )


def _tasks_of(dataset: str) -> list[TaskName]:
    return [TaskName(dataset, number) for number in TASK_MODALITIES]
