"""The instructions of a data set: which prompt a query gets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from puma_cli.data.lines import numbered_lines
from puma_cli.data.records import MODALITIES, TASK_MODALITIES, Query, dataset_of
from puma_cli.errors import ConfigError, DataError

KEY_COLUMNS = ("query_modality", "cand_modality", "dataset_id")
MODES = ("first", "seeded")
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Instructions:
    """Prompts by (data set number, query modality, candidate modality)."""

    table: dict[Key, tuple[str, ...]] = field(default_factory=dict)

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
    """Read `query_instructions.tsv`; where not even its folder is there, there are no instructions.

    Raises:
        DataError: the file cannot be read, a column is missing, or a line has other columns, an
            unknown modality, no prompt, or the key of another with other prompts.
    """
    if not path.parent.exists():
        return Instructions()
    lines = ((number, line.strip("\r\n")) for number, line in numbered_lines(path) if line.strip())
    _, header = next(lines, (1, ""))
    names = [name.strip() for name in header.split("\t")]
    missing = [name for name in (*KEY_COLUMNS, "prompt_1") if name not in names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}.", cause="M-BEIR names it so.")
    table: dict[Key, tuple[str, ...]] = {}
    for number, line in lines:
        try:
            key, prompts = _read_line(names, line)
            if table.setdefault(key, prompts) != prompts:
                raise ValueError("an earlier line has other prompts for the same queries")
        except ValueError as error:
            raise DataError(
                f"{path}, line {number} is broken: {line[:80]!r}.", cause=f"{error}."
            ) from error
    return Instructions(table)


def _read_line(names: list[str], line: str) -> tuple[Key, tuple[str, ...]]:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) != len(names):
        raise ValueError(f"it has {len(cells)} columns, not {len(names)}")
    row = dict(zip(names, cells, strict=True))
    for name in ("query_modality", "cand_modality"):
        if row[name] not in MODALITIES:
            raise ValueError(f"{name} {row[name]!r} is not one of {MODALITIES}")
    if not row["dataset_id"] or " " in row["dataset_id"]:
        raise ValueError(f"dataset_id {row['dataset_id']!r} is no number of a data set")
    prompts = tuple(text for name, text in row.items() if name.startswith("prompt_") and text)
    if not prompts:
        raise ValueError("it has no prompt")
    return (row["dataset_id"], row["query_modality"], row["cand_modality"]), prompts
