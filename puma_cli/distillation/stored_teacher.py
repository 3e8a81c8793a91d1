"""A teacher that is no model at hand: its embeddings of the training's queries and candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from puma_cli.checkpoint.source import resolve
from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.errors import DataError
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.inputs import Input

QUERIES, CANDIDATES = "queries", "candidates"
_CHECKED = 4_096


class Name(NamedTuple):
    """Which row an input has: `queries` or `candidates`, and the id there."""

    table: str
    id: str


def is_stored(teacher: str) -> bool:
    """Tell whether a teacher is a folder of embeddings rather than a model.

    One that lacks a table is one too, so that the error names the table.
    """
    folder = Path(teacher)
    tables = any((folder / f"{table}.npy").is_file() for table in (QUERIES, CANDIDATES))
    return tables and not (folder / "config.json").is_file()


def reads_once(settings: DistillSettings) -> bool:
    """Tell whether what the teacher says of each input is fixed before the first step."""
    return settings.train.cache_teacher or is_stored(settings.teacher)


def teacher_width(teacher: str) -> int:
    """Return the dimension of a teacher's embeddings.

    Raises:
        CheckpointError: there is no such model.
        DataError: a table is broken, or the two have other widths.
    """
    if not is_stored(teacher):
        return settings_for(resolve(teacher)).dimension
    widths = {_open(Path(teacher) / f"{table}.npy").shape[1] for table in (QUERIES, CANDIDATES)}
    if len(widths) > 1:
        raise DataError(f"The tables of {teacher} have {sorted(widths)} columns.")
    return int(widths.pop())


class StoredTeacher:
    """Un-normalised teacher embeddings from two tables, mapped rather than read.

    A table is NAME.npy, numbers (N, D), beside NAME.txt, an id a line.

    Args:
        folder: holds `queries` and `candidates`.
        named: the row of each distinct input of the training.

    Raises:
        DataError: a table is broken, or lacks an id, or a row is not finite.
    """

    def __init__(self, folder: Path, named: Mapping[Input, Name]) -> None:
        self._folder, self._named = folder, named
        self._tables: dict[str, np.ndarray] = {}
        self._places: dict[Name, int] = {}
        self._find()
        # A sample is drawn at every step.
        self._sorted = sorted(self._places)

    def __len__(self) -> int:
        return len(self._named)

    def _find(self) -> None:
        wanted = set(self._named.values())
        for table in (QUERIES, CANDIDATES):
            path = self._folder / f"{table}.npy"
            vectors = self._tables[table] = _open(path)
            count = 0
            for count, found in enumerate(_ids(path.with_suffix(".txt")), start=1):
                if (name := Name(table, found)) in wanted:
                    self._places[name] = count - 1
            if count != len(vectors):
                raise DataError(
                    f"{path} has {len(vectors):,} rows.",
                    cause=f"{path.with_suffix('.txt')} has {count:,} ids, one a line.",
                )
        missing = sorted(wanted - self._places.keys())
        if missing:
            first = missing[0]
            raise DataError(
                f"{self._folder / first.table}.txt lacks the id {first.id}.",
                cause=f"{len(missing):,} of the {len(wanted):,} rows that the training asks for "
                "are not there.",
                hint="Embed the training queries and all candidates that they name.",
            )
        names = list(self._named)
        for start in range(0, len(names), _CHECKED):
            if not self.vectors(names[start : start + _CHECKED]).isfinite().all():
                raise DataError(f"{self._folder} holds embeddings that are not finite.")

    def sample(self, count: int, seed: int) -> Tensor:
        """Return at most so many of the training's embeddings, drawn by a seed, float32 (M, D)."""
        drawn = np.random.default_rng(seed).permutation(len(self._sorted))[:count]
        return self._rows([self._sorted[i] for i in drawn])

    def vectors(self, inputs: Sequence[Input]) -> Tensor:
        """Return the teacher's embeddings of some inputs, float32 (B, D) on the CPU."""
        return self._rows([self._named[entry] for entry in inputs])

    def _rows(self, names: Sequence[Name]) -> Tensor:
        rows = [self._tables[name.table][self._places[name]] for name in names]
        return torch.from_numpy(np.stack(rows).astype(np.float32))


def planned_names(order: BatchOrder, examples: Examples, steps: int) -> dict[Input, Name]:
    """Return the row of each distinct input of a training's first `steps` batches."""
    found: dict[Input, Name] = {}
    for step in range(steps):
        epoch, indices = order.batch(step)
        batch = examples.batch(indices, epoch)
        tables = [QUERIES] * len(batch.queries) + [CANDIDATES] * len(batch.candidates)
        for entry, table, name in zip(batch.inputs, tables, batch.names, strict=True):
            found.setdefault(entry, Name(table, name))
    return found


def _open(path: Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read.", cause=str(error)) from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f":
        raise DataError(f"{path} is no table of numbers (N, D).")
    return found


def _ids(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read.", cause=str(error)) from error
