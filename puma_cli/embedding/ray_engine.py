"""The same index from the machines of a Ray cluster: `pip install 'puma-cli[ray]'`.

Ray Data gets a row for each shard, which says where its inputs begin, and maps it by actors that
hold a model each: inputs are read, and shards written, where they are computed. What goes through
Ray are numbers, so a shard that is tried twice is found there, or made again with the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import torch

from puma_cli import errors
from puma_cli.checkpoint.source import resolve
from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.index_file import IndexDescription
from puma_cli.embedding.index_folder import begun, describe_index
from puma_cli.embedding.ray_cluster import Pool, cluster, plan_pool, workers_explained
from puma_cli.embedding.ray_worker import ShardWorker, WorkerTask
from puma_cli.embedding.shards import read_record, records
from puma_cli.embedding.sinks import Sink, open_sink
from puma_cli.embedding.sources import open_sources, skipping_explained
from puma_cli.embedding.starts import ShardStart, find_starts
from puma_cli.embedding.whole_index import EmbedResult, Teller, check_all, finish
from puma_cli.errors import DataError, OutputError, PumaError
from puma_cli.progress import Reporter, by_rows

# Tasks that shards are dealt out in, at most: a task is what is tried again as a whole.
_TASKS = 4_096
# How often shards that are not there in the end are tried again.
_PASSES = 3


def embed_on_ray(settings: EmbedSettings, reporter: Reporter) -> EmbedResult:
    """Do what `embed` does, on a Ray cluster whose machines share inputs and output folder.

    Raises:
        ConfigError: Ray is not installed, or the cluster is not there or has no room.
        PumaError: see `embed`.
    """
    sources = open_sources(settings)
    model = resolve(settings.model, reporter)
    with cluster(settings.ray_address):
        pool = plan_pool(settings)
        if pool.note:
            reporter.note(pool.note)
        device = torch.device(pool.device)
        planned = describe_index(settings, model, device)
        folder = settings.output_dir
        with begun(settings, planned, model):
            sink = open_sink(folder, settings.format, settings.store_dtype, planned.dimensions)
            known = records(folder, passing_over=True)
            with skipping_explained():
                starts, inputs = find_starts(sources, settings.shard_rows)
            check_all(settings, known, len(starts))
            left = max(0, inputs - sum(record.read for record in known))
            run = _Run(settings, planned, pool, reporter)
            todo = starts
            for _ in range(_PASSES):
                run.fill(todo, left)
                sink = open_sink(folder, settings.format, settings.store_dtype, planned.dimensions)
                todo = [begin for begin in starts if not _is_there(settings, sink, begin.number)]
                if not todo:
                    break
                left = len(todo) * settings.shard_rows
            else:
                raise OutputError(
                    f"Shard {todo[0].number} of `{folder}` is not there after {_PASSES} attempts.",
                    cause="A worker has said that it wrote it.",
                    hint="Do all machines of the cluster see the same folder?",
                )
            sink.finish()
            return finish(settings, planned, run.embedded({r.number for r in known}))


def _is_there(settings: EmbedSettings, sink: Sink, number: int) -> bool:
    try:
        record = read_record(settings.output_dir, number)
    except DataError:
        return False
    # A database's rows may have been added twice by a worker that was taken for dead; files, which
    # can only be replaced, the worker has compared with their checksums.
    return record is not None and (bool(record.files) or sink.holds(record))


class _Run:
    """One call of `embed`, as the driver of the cluster sees it."""

    def __init__(
        self,
        settings: EmbedSettings,
        planned: IndexDescription,
        pool: Pool,
        reporter: Reporter,
    ) -> None:
        self._settings, self._pool, self._reporter = settings, pool, reporter
        own = replace(settings, device=pool.device, dtype=planned.compute_dtype)
        self._task = WorkerTask.of(own, planned.fingerprint, pool.cpus)
        self._teller = Teller(reporter)
        self._made: set[int] = set()

    def fill(self, todo: Sequence[ShardStart], left: int) -> None:
        """Let the workers make the shards that are not there.

        Args:
            left: about how many inputs they have.

        Raises:
            PumaError: a worker met it; the others' shards that are whole are kept.
        """

        def rows() -> Iterator[int]:
            for found in self._results(todo):
                if found["error"]:
                    raise _error(json.loads(found["error"]))
                self._teller.tell(json.loads(found["left_out"]))
                if found["made"]:
                    self._made.add(int(found["number"]))
                    yield int(found["read"])

        found = rows()
        # Before the clock starts that tells the time left: workers come up, and open the model.
        first = list(islice(found, 1))
        for _ in by_rows(self._reporter, chain(first, found), "embed", left, lambda done: done):
            pass

    def embedded(self, known: set[int]) -> int:
        """Return how many vectors were computed.

        Args:
            known: shards that were there before: of the others, a worker may have been killed
                before it could say that it made them.
        """
        there = records(self._settings.output_dir)
        return sum(r.rows for r in there if r.number in self._made or r.number not in known)

    def _results(self, todo: Sequence[ShardStart]) -> Iterator[Mapping[str, Any]]:
        import ray.data

        pool = self._pool
        # A class whose objects are called, which Ray's types do not know.
        worker: Any = ShardWorker
        given = [
            {"number": begin.number, "source": begin.source, "start": json.dumps(begin.start)}
            for begin in todo
        ]
        with workers_explained():
            shards = ray.data.from_items(given, override_num_blocks=min(len(given), _TASKS))
            done = shards.map(
                worker,
                fn_constructor_kwargs={"task": self._task},
                compute=ray.data.ActorPoolStrategy(size=pool.workers),
                num_cpus=pool.cpus,
                num_gpus=pool.gpus or None,
            )
            yield from done.iter_rows()


def _error(told: Mapping[str, str]) -> PumaError:
    """Return a worker's error as one of this process."""
    kind = getattr(errors, told["kind"], PumaError)
    where = f"Met by a worker on {told['host']}."
    found: PumaError = kind(
        told["problem"],
        cause="\n".join(filter(None, (told["cause"], where))),
        hint=told["hint"],
    )
    return found
