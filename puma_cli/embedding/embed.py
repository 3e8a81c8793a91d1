"""Embedding inputs of any number into an index: `puma embed`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain

from puma_cli.checkpoint.source import resolve
from puma_cli.config.index_settings import EmbedSettings
from puma_cli.config.legal import check_settings
from puma_cli.embedding.index_folder import begun, describe_index
from puma_cli.embedding.rank_shares import forget_shares, hand_in, others_embedded
from puma_cli.embedding.rows import Item
from puma_cli.embedding.shard_maker import ShardMaker
from puma_cli.embedding.shards import ShardRecord, records
from puma_cli.embedding.sinks import open_sink
from puma_cli.embedding.sources import (
    STANDARD_INPUT,
    ShardReader,
    Source,
    blocks,
    count,
    explained,
    open_sources,
    skipping_explained,
)
from puma_cli.embedding.starts import find_starts
from puma_cli.embedding.whole_index import EmbedResult, Teller, check_all, finish, why
from puma_cli.errors import ConfigError
from puma_cli.processes import Processes, join, started
from puma_cli.progress import SILENT, Reporter, by_rows

RAY = "ray"
Numbered = tuple[int, list[Item]]


def embed(settings: EmbedSettings, reporter: Reporter = SILENT) -> EmbedResult:
    """Embed the inputs, shard by shard, and write an index that `puma search` reads.

    The same call goes on after a run that was stopped or killed; on a whole index, it embeds what
    has been appended to the inputs since. Memory does not grow with their number.

    Several processes share the work; those other than the first return what they did themselves.

    Raises:
        CheckpointError: the model cannot be opened.
        ConfigError: a setting has an illegal value.
        DataError: an input is missing or broken, or is not what was embedded before.
        OutputError: the folder holds something else, or the disk is full.
        ProcessError: a worker of another machine fails for reasons of its own.
    """
    check_settings(settings)
    if settings.engine == RAY:
        from puma_cli.embedding.ray_engine import embed_on_ray

        if started() > 1:
            raise ConfigError(
                f"engine = ray is not possible in {started()} processes.",
                hint="Start it without a launcher: Ray starts the workers.",
            )
        _check_shared(settings, "the workers of a Ray cluster")
        return embed_on_ray(settings, reporter)
    processes = join(settings.device)
    if processes.count > 1:
        _check_shared(settings, f"{processes.count} processes")
    model = resolve(settings.model, reporter)
    sources = open_sources(settings)
    planned = describe_index(settings, model)
    folder = settings.output_dir
    with ExitStack() as stack:

        def prepare() -> None:
            stack.enter_context(begun(settings, planned, model))
            forget_shares(folder)
            # Of several processes, one makes a database's table.
            open_sink(folder, settings.format, settings.store_dtype, planned.dimensions)

        processes.first(prepare)
        sink = open_sink(folder, settings.format, settings.store_dtype, planned.dimensions)
        maker = ShardMaker(settings, model, sink)
        known = records(folder, passing_over=True)
        run = _Run(settings, maker, reporter, processes)
        shards = run.fill(sources, known)
        if not processes.is_main:
            hand_in(folder, processes.place, run.embedded)
            return EmbedResult(folder, planned, 0, run.embedded, 0, 0, 0, 0)
        check_all(settings, known, shards)
        sink.finish()
        embedded = run.embedded + others_embedded(folder, processes.count)
        return finish(settings, planned, embedded)


@dataclass
class _Run:
    """One process's part of a call of `embed`."""

    settings: EmbedSettings
    maker: ShardMaker
    reporter: Reporter
    processes: Processes
    embedded: int = 0

    def fill(self, sources: Sequence[Source], known: Sequence[ShardRecord]) -> int:
        """Embed those inputs that no shard has; return how many shards all inputs make."""
        expected = count(sources)
        left = None if expected is None else max(0, expected - sum(r.read for r in known))
        if left is not None:
            left = -(-left // self.processes.count)
        teller, shards = Teller(self.reporter), 0

        def missing() -> Iterator[Numbered]:
            nonlocal shards
            for number, items in self._shards(sources):
                if items is not None and not self.maker.has(number, items):
                    yield number, items
                shards += 1

        def steps(todo: Iterator[Numbered]) -> Iterator[int]:
            for number, items in todo:
                made = yield from self.maker.steps(number, items)
                teller.tell(map(why, made.broken))
                self.embedded += made.rows

        todo = missing()
        first = next(todo, None)
        if first is not None:
            # Before the clock starts that tells the time left.
            self.maker.open()
            for _ in by_rows(
                self.reporter, steps(chain([first], todo)), "embed", left, lambda rows: rows
            ):
                pass
        return shards

    def _shards(self, sources: Sequence[Source]) -> Iterator[tuple[int, list[Item] | None]]:
        """Yield the shards in order; of several processes, only its own with their inputs."""
        size, processes = self.settings.shard_rows, self.processes
        if processes.count == 1:
            yield from enumerate(blocks(explained(sources), size))
            return
        reader = ShardReader(sources, size)
        with skipping_explained():
            for begin in find_starts(sources, size)[0]:
                own = begin.number % processes.count == processes.place
                yield begin.number, reader.read(begin) if own else None


def _check_shared(settings: EmbedSettings, readers: str) -> None:
    if STANDARD_INPUT in settings.inputs:
        raise ConfigError(
            f"Standard input cannot be shared out to {readers}.",
            hint="Write it to a file first, and name that.",
        )
