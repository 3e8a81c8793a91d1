"""What is said of an index, once all its shards are there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.index_file import IndexDescription, write_description
from puma_cli.embedding.index_folder import write_origin
from puma_cli.embedding.rows import Broken
from puma_cli.embedding.shard_maker import inputs_changed
from puma_cli.embedding.shards import ShardRecord, records
from puma_cli.errors import DataError
from puma_cli.progress import Reporter

# Broken inputs that are told of one by one.
TOLD = 5


@dataclass(frozen=True)
class EmbedResult:
    """What `puma embed` did.

    Args:
        folder: the index.
        description: what it is.
        rows: vectors in it.
        embedded: vectors that were computed now; the others were there.
        skipped: inputs that were left out since they could not be read.
        cut: texts that were longer than the model takes, and were cut.
        shards: how many there are.
        bytes: size of the vectors' and rows' files.
    """

    folder: Path
    description: IndexDescription
    rows: int
    embedded: int
    skipped: int
    cut: int
    shards: int
    bytes: int


class Teller:
    """Tells of the first inputs that are left out, and that there are more."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter, self._told = reporter, 0

    def tell(self, left_out: Iterable[str]) -> None:
        """Take news of inputs."""
        for text in left_out:
            self._told += 1
            if self._told <= TOLD:
                self._reporter.note(f"Left out: {text}")
            elif self._told == TOLD + 1:
                self._reporter.note("Further ones are counted.")


def why(item: Broken) -> str:
    """Return in a line which input could not be read, and why."""
    cause = item.error.cause or item.error.problem
    return f"{item.where}: {cause.splitlines()[0]}"


def check_all(settings: EmbedSettings, known: Iterable[ShardRecord], shards: int) -> None:
    """Raise DataError if inputs have become fewer, or there are none.

    Args:
        known: shards that were there before.
        shards: how many the inputs make.
    """
    beyond = next((record.number for record in known if record.number >= shards), None)
    if beyond is not None:
        raise inputs_changed(settings, beyond)
    if not shards:
        raise DataError(
            "There is nothing to embed.",
            cause=f"{', '.join(settings.inputs)} held no text and no image.",
        )


def finish(settings: EmbedSettings, planned: IndexDescription, embedded: int) -> EmbedResult:
    """Say that an index is complete.

    Args:
        embedded: vectors that this run has computed.

    Raises:
        DataError: there is no vector in it.
        OutputError: the disk is full or refuses.
    """
    folder = settings.output_dir
    found = records(folder)
    total = sum(record.rows for record in found)
    skipped = sum(record.skipped for record in found)
    if not total:
        raise DataError(
            "There is nothing to embed.", cause=f"None of {skipped} inputs could be read."
        )
    whole = replace(planned, complete=True, rows=total, shards=len(found))
    results = {"rows": total, "shards": len(found), "skipped": skipped}
    with explained_writes(folder):
        write_origin(settings, whole, results)
        write_description(folder, whole)
    return EmbedResult(
        folder=folder,
        description=whole,
        rows=total,
        embedded=embedded,
        skipped=skipped,
        cut=sum(record.cut for record in found),
        shards=len(found),
        bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    )
