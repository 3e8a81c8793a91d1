"""What a training reads, whatever it is read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Protocol

from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import MbeirFolder, TaskName
from puma_cli.data.pairs.reading import read_pairs
from puma_cli.data.records import Candidate, Query
from puma_cli.data.retrieval_data import RetrievalData
from puma_cli.errors import ConfigError, DataError
from puma_cli.progress import SILENT, Reporter


class TrainingData(Protocol):
    """Queries with their positives, and others to validate on."""

    @property
    def queries(self) -> Sequence[Query]:
        """The queries to train on (at least one)."""
        ...

    @property
    def tasks(self) -> Sequence[TaskName]:
        """The task of each query."""
        ...

    @property
    def pool(self) -> Sequence[Candidate]:
        """The candidates that they name."""
        ...

    @property
    def instructions(self) -> Instructions:
        """What queries are asked with."""
        ...

    @property
    def validation(self) -> RetrievalData | None:
        """Queries of the split `val`, none of them to train on, or None without any."""
        ...


class MbeirTraining:
    """The training split of a folder in the M-BEIR layout.

    Args:
        tasks: glob over task names.

    Raises:
        DataError: the folder is broken, or has no training queries of such tasks.
    """

    def __init__(self, folder: MbeirFolder, tasks: str = "*") -> None:
        self._folder = folder
        named = folder.named_training(tasks)
        self.queries = [query for _, query in named]
        self.tasks = [task for task, _ in named]

    @cached_property
    def pool(self) -> list[Candidate]:
        """The candidates of all tasks."""
        return self._folder.union_pool("train")

    @property
    def instructions(self) -> Instructions:
        """The folder's prompts."""
        return self._folder.instructions

    @property
    def validation(self) -> RetrievalData | None:
        """The folder itself, if it has a validation split."""
        return self._folder if (self._folder.root / "query" / "val").is_dir() else None


def open_training_data(settings: DistillSettings, reporter: Reporter = SILENT) -> TrainingData:
    """Open `settings.data`: a table of pairs, a folder of tables, or the M-BEIR layout.

    Raises:
        ConfigError: settings of pairs are given, but there are none.
        DataError: the data are missing or broken.
    """
    path = settings.data
    if any((path / room).is_dir() for room in (LAYOUT.queries, LAYOUT.pools)):
        _check_no_pairs(settings.pairs, path)
        return MbeirTraining(MbeirFolder(path), settings.tasks)
    if not path.exists():
        raise DataError(
            f"There are no data at {path}.",
            hint="Give a table of pairs (.jsonl, .parquet, .csv), a folder of such tables, or one "
            "in the M-BEIR layout; puma data scenes --output-dir scenes makes one to try.",
        )
    data = read_pairs(path, settings.pairs, settings.tasks, settings.seed, reporter)
    if not settings.batch.negatives and any(query.negatives for query in data.queries):
        reporter.note(
            "The data name hard negatives, which are not trained against without "
            "--set batch.negatives=N."
        )
    return data


def _check_no_pairs(pairs: PairsSettings, path: Path) -> None:
    usual = PairsSettings()
    for field in fields(pairs):
        if getattr(pairs, field.name) != getattr(usual, field.name):
            raise ConfigError(
                f"pairs.{field.name} is set, but {path} holds no tables of pairs.",
                cause="It is taken for a folder in the M-BEIR layout.",
                hint="Leave the setting out, or check --data.",
            )
