"""Embedding inputs of any number into an index: `puma embed`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.checkpoint.source import resolve
from puma_cli.config.index_settings import EmbedSettings
from puma_cli.config.legal import check_settings
from puma_cli.embedding.index_file import IndexDescription, write_description
from puma_cli.embedding.index_folder import (
    begin,
    describe_index,
    gone_if_empty,
    take_up,
    write_origin,
)
from puma_cli.embedding.lock import only_writer
from puma_cli.embedding.row_embedder import SKIP_HINT, RowEmbedder, open_row_embedder
from puma_cli.embedding.rows import Broken, Item, content_of
from puma_cli.embedding.shards import (
    ShardRecord,
    commit,
    forget,
    read_record,
    records,
    remove_drafts,
)
from puma_cli.embedding.sinks import Sink, open_sink
from puma_cli.embedding.sources import Source, blocks, count, open_sources, stream
from puma_cli.errors import DataError
from puma_cli.progress import SILENT, Reporter, by_rows

# Broken inputs that are told of one by one.
_TOLD = 5


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


def embed(settings: EmbedSettings, reporter: Reporter = SILENT) -> EmbedResult:
    """Embed the inputs, shard by shard, and write an index that `puma search` reads.

    The same call goes on after a run that was stopped or killed; on a whole index, it embeds what
    has been appended to the inputs since. Memory does not grow with their number.

    Raises:
        CheckpointError: the model cannot be opened.
        ConfigError: a setting has an illegal value.
        DataError: an input is missing or broken, or is not what was embedded before.
        OutputError: the folder holds something else, or the disk is full.
    """
    check_settings(settings)
    model = resolve(settings.model, reporter)
    sources = open_sources(settings)
    planned = describe_index(settings, model)
    folder = settings.output_dir
    take_up(settings, planned, model)
    with explained_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder), gone_if_empty(folder):
        begin(settings, planned)
        run = _Run(settings, planned, model, reporter)
        run.fill(sources)
        return run.finish()


@dataclass
class _Run:
    """One call of `embed`."""

    settings: EmbedSettings
    description: IndexDescription
    model: Path
    reporter: Reporter
    embedded: int = 0
    told: int = 0
    _embedder: RowEmbedder | None = field(default=None, repr=False)

    def fill(self, sources: Sequence[Source]) -> None:
        """Go through all inputs, and embed those that no shard has."""
        folder, settings = self.settings.output_dir, self.settings
        form = open_sink(folder, settings.format, settings.store_dtype, self.description.dimensions)
        remove_drafts(folder)
        known = records(folder, passing_over=True)
        expected = count(sources)
        left = None if expected is None else max(0, expected - sum(r.read for r in known))
        done = 0

        def missing() -> Iterator[tuple[int, list[Item]]]:
            nonlocal done
            for number, items in enumerate(blocks(_explained(sources), settings.shard_rows)):
                if not self._has(form, number, items):
                    yield number, items
                done += 1

        def steps(shards: Iterator[tuple[int, list[Item]]]) -> Iterator[int]:
            for number, items in shards:
                yield from self._shard(form, number, items)

        todo = missing()
        first = next(todo, None)
        if first is not None:
            # Before the clock starts that tells the time left.
            self._open()
            shards = steps(chain([first], todo))
            for _ in by_rows(self.reporter, shards, "embed", left, lambda rows: rows):
                pass
        beyond = next((record.number for record in known if record.number >= done), None)
        if beyond is not None:
            raise _changed(self.settings, beyond)
        if not done:
            raise DataError(
                "There is nothing to embed.",
                cause=f"{', '.join(settings.inputs)} held no text and no image.",
            )
        form.finish()

    def finish(self) -> EmbedResult:
        """Say that the index is complete."""
        folder = self.settings.output_dir
        found = records(folder)
        total = sum(record.rows for record in found)
        skipped = sum(record.skipped for record in found)
        if not total:
            raise DataError(
                "There is nothing to embed.", cause=f"None of {skipped} inputs could be read."
            )
        whole = replace(self.description, complete=True, rows=total, shards=len(found))
        results = {"rows": total, "shards": len(found), "skipped": skipped}
        with explained_writes(folder):
            write_origin(self.settings, whole, results)
            write_description(folder, whole)
        return EmbedResult(
            folder=folder,
            description=whole,
            rows=total,
            embedded=self.embedded,
            skipped=skipped,
            cut=sum(record.cut for record in found),
            shards=len(found),
            bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        )

    def _has(self, sink: Sink, number: int, items: list[Item]) -> bool:
        """Tell whether a shard of these inputs is there.

        Raises:
            DataError: it was made from other inputs.
        """
        folder = self.settings.output_dir
        try:
            record = read_record(folder, number)
        except DataError:
            return False
        if record is None:
            return False
        if record.read > len(items) or content_of(items[: record.read]) != record.inputs:
            raise _changed(self.settings, number)
        # The last shard, where inputs were appended since, is made again with what follows.
        return record.read == len(items) and sink.holds(record)

    def _shard(self, sink: Sink, number: int, items: list[Item]) -> Iterator[int]:
        folder = self.settings.output_dir
        # Before they are read: what changes meanwhile is noticed next time.
        inputs = content_of(items)
        found = yield from self._open().steps(items)
        self._tell(found.broken)
        forget(folder, number)
        files = sink.write(number, found.vectors, found.rows)
        record = ShardRecord(
            number=number,
            rows=len(found.rows),
            read=len(items),
            skipped=len(found.broken),
            cut=found.cut,
            inputs=inputs,
            files=files,
        )
        commit(folder, record)
        self.embedded += len(found.rows)

    def _open(self) -> RowEmbedder:
        if self._embedder is None:
            asked = self.settings
            self._embedder = open_row_embedder(
                self.model,
                asked.device,
                asked.dtype,
                asked.attention,
                side=asked.side,
                instruction=asked.instruction,
                dimensions=asked.dimensions,
                skip_broken=asked.skip_broken,
                batch_size=asked.batch_size,
                batch_tokens=asked.batch_tokens or None,
                image_workers=asked.image_workers,
            )
        return self._embedder

    def _tell(self, broken: list[Broken]) -> None:
        for item in broken:
            self.told += 1
            if self.told <= _TOLD:
                why = item.error.cause or item.error.problem
                self.reporter.note(f"Left out: {item.where}: {why.splitlines()[0]}")
            elif self.told == _TOLD + 1:
                self.reporter.note("Further ones are counted.")


def _explained(sources: Sequence[Source]) -> Iterator[Item]:
    """Yield all inputs; of one that cannot be read, say how to go on without it."""
    try:
        yield from stream(sources)
    except DataError as error:
        error.hint = "\n".join(filter(None, (error.hint, SKIP_HINT)))
        raise


def _changed(settings: EmbedSettings, number: int) -> DataError:
    first = number * settings.shard_rows + 1
    return DataError(
        f"The inputs are not those that `{settings.output_dir}` was made from: they differ "
        f"among the {settings.shard_rows:,} from number {first:,} on.",
        cause="Inputs may be appended to; what was embedded before has to stay as it is.",
        hint="Make the index anew with --overwrite, or choose another --output-dir.",
    )
