"""One shard from its inputs: what the one process does, or each of many workers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.row_embedder import RowEmbedder, open_row_embedder
from puma_cli.embedding.rows import Broken, Item, content_of
from puma_cli.embedding.shards import ShardRecord, commit, forget, read_record
from puma_cli.embedding.sinks import Sink
from puma_cli.errors import DataError


@dataclass(frozen=True)
class Made:
    """What came of a shard: the vectors in it, and the inputs that could not be read."""

    rows: int
    broken: Sequence[Broken]


@dataclass
class ShardMaker:
    """Makes the shards of an index; a shard that is made twice is the same, and there once.

    Args:
        settings: those of the run.
        model: folder of the model, which is opened when the first shard is made.
        sink: where shards go.
    """

    settings: EmbedSettings
    model: Path
    sink: Sink
    _embedder: RowEmbedder | None = field(default=None, repr=False)

    def has(self, number: int, items: Sequence[Item]) -> bool:
        """Tell whether a shard of these inputs is there.

        Raises:
            DataError: it was made from other inputs.
        """
        try:
            record = read_record(self.settings.output_dir, number)
        except DataError:
            return False
        if record is None:
            return False
        if record.read > len(items) or content_of(items[: record.read]) != record.inputs:
            raise inputs_changed(self.settings, number)
        # The last shard, where inputs were appended since, is made again with what follows.
        return record.read == len(items) and self.sink.holds(record)

    def make(self, number: int, items: Sequence[Item]) -> Made:
        """Make a shard.

        Raises:
            PumaError: see `steps`.
        """
        steps = self.steps(number, items)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                made: Made = stop.value
                return made

    def steps(self, number: int, items: Sequence[Item]) -> Generator[int, None, Made]:
        """Make a shard, yielding how many inputs are done after each batch.

        Raises:
            DataError, DeviceError, NumericError: see `RowEmbedder`.
            OutputError: the disk is full or refuses.
        """
        # Before they are read: what changes meanwhile is noticed next time.
        inputs = content_of(items)
        found = yield from self.open().steps(items)
        forget(self.settings.output_dir, number)
        files = self.sink.write(number, found.vectors, found.rows)
        record = ShardRecord(
            number=number,
            rows=len(found.rows),
            read=len(items),
            skipped=len(found.broken),
            cut=found.cut,
            inputs=inputs,
            files=files,
        )
        commit(self.settings.output_dir, record)
        return Made(len(found.rows), found.broken)

    def open(self) -> RowEmbedder:
        """Return the model, opened the first time.

        Raises:
            CheckpointError, ConfigError: see `load`.
        """
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


def inputs_changed(settings: EmbedSettings, number: int) -> DataError:
    """Return the error of inputs that are not what a shard was made from."""
    first = number * settings.shard_rows + 1
    return DataError(
        f"The inputs are not those that `{settings.output_dir}` was made from: they differ "
        f"among the {settings.shard_rows:,} from number {first:,} on.",
        cause="Inputs may be appended to; what was embedded before has to stay as it is.",
        hint="Make the index anew with --overwrite, or choose another --output-dir.",
    )
