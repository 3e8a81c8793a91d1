"""The instructions of a data set: which prompt a query gets."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from puma_cli.data.records import TASK_MODALITIES, Query, dataset_of
from puma_cli.errors import ConfigError, DataError

KEY_COLUMNS = ("query_modality", "cand_modality", "dataset_id")
MODES = ("first", "seeded")


@dataclass(frozen=True)
class Instructions:
    """Prompts by (data set number, query modality, candidate modality)."""

    table: dict[tuple[str, str, str], tuple[str, ...]] = field(default_factory=dict)

    def prompts(
        self, dataset_id: str, query_modality: str, candidate_modality: str
    ) -> tuple[str, ...]:
        """Return the prompts of a kind of query; empty when the data set names none."""
        return self.table.get((dataset_id, query_modality, candidate_modality), ())

    def pick(self, query: Query, mode: str = "first", seed: int | str = 0) -> str | None:
        """Return one query's prompt, its own before its data set's, or None where there is none.

        Args:
            mode: `first`, or `seeded` for a prompt drawn from `seed` and the qid.

        Raises:
            ConfigError: the mode is unknown.
        """
        if mode not in MODES:
            raise ConfigError(
                f"{mode!r} is no way to choose instructions.", hint="first or seeded."
            )
        if query.instruction is not None:
            return query.instruction
        prompts = self.prompts(dataset_of(query.qid), *TASK_MODALITIES[query.task_id])
        if not prompts:
            return None
        if mode == "first":
            return prompts[0]
        digest = hashlib.sha256(f"{seed}/{query.qid}".encode()).digest()
        return prompts[int.from_bytes(digest[:8], "big") % len(prompts)]


def read_instructions(path: Path) -> Instructions:
    """Read `query_instructions.tsv`; a missing file means no instructions.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    if not path.is_file():
        return Instructions()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return Instructions(_read_table(path, file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The file {path} cannot be read.", cause=str(error)) from error


def _read_table(path: Path, lines: Iterable[str]) -> dict[tuple[str, str, str], tuple[str, ...]]:
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    missing = [name for name in KEY_COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}.", cause="M-BEIR names it so.")
    table: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for row in rows:
        prompts = tuple(
            text.strip()
            for name, text in row.items()
            if name and name.startswith("prompt_") and text and text.strip()
        )
        table[row["dataset_id"], row["query_modality"], row["cand_modality"]] = prompts
    return table
