"""What an actor of a Ray cluster does: make shards, one after the other."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.fingerprint import fingerprint
from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.checkpoint.source import resolve
from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.index_file import INDEX_FILE, read_description
from puma_cli.embedding.shard_maker import ShardMaker
from puma_cli.embedding.shards import DRAFT, FOLDER, stem_of
from puma_cli.embedding.sinks import open_sink
from puma_cli.embedding.sources import ShardReader, open_sources, skipping_explained
from puma_cli.embedding.starts import ShardStart
from puma_cli.embedding.whole_index import TOLD, why
from puma_cli.errors import CheckpointError, OutputError, ProcessError, PumaError
from puma_cli.progress import SILENT


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is to do.

    Args:
        settings: those of the run, with the device and the number format of the workers.
        fingerprint: of the model.
        threads: how many it computes with.
        folder: where the command was given, which relative paths start from.
    """

    settings: EmbedSettings
    fingerprint: str
    threads: int
    folder: str

    @classmethod
    def of(cls, settings: EmbedSettings, mark: str, threads: int) -> WorkerTask:
        """Return the task of workers for a command that was given here."""
        return cls(settings, mark, threads, str(Path.cwd()))


# How often the worker of one shard may end before that is no accident.
ATTEMPTS = 10


def attempts_path(folder: Path, number: int) -> Path:
    """Return where it is counted how often a shard was begun; a draft, so that it goes as such."""
    return folder / FOLDER / f".{stem_of(number)}{DRAFT}-attempts"


class ShardWorker:
    """Makes the shards that it is called with; holds one model."""

    def __init__(self, task: WorkerTask) -> None:
        self._task = task
        self._maker: ShardMaker | None = None
        self._reader: ShardReader | None = None

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Make one shard, unless it is there; return what came of it, an error included.

        Args:
            row: its `number`, and the `source` and `start` of its first input.
        """
        found = {"number": int(row["number"]), "read": 0, "made": False}
        left_out: list[str] = []
        told = ""
        try:
            begin = ShardStart(int(row["number"]), int(row["source"]), json.loads(row["start"]))
            maker, reader = self._open()
            with skipping_explained():
                items = reader.read(begin)
            found["read"] = len(items)
            if not maker.has(begin.number, items):
                with self._attempt(begin.number):
                    made = maker.make(begin.number, items)
                left_out = [why(item) for item in made.broken[: TOLD + 1]]
                found["made"] = True
        except PumaError as error:
            # Not raised: Ray would try again what fails each time, and show its own stack.
            told = json.dumps(
                {
                    "kind": type(error).__name__,
                    "problem": error.problem,
                    "cause": error.cause,
                    "hint": error.hint,
                    "host": socket.gethostname(),
                }
            )
        return found | {"left_out": json.dumps(left_out), "error": told}

    @contextmanager
    def _attempt(self, number: int) -> Iterator[None]:
        """Count, beside the shards, how often one was begun: Ray tries for ever.

        Raises:
            ProcessError: it has ended its worker too often.
        """
        path = attempts_path(self._task.settings.output_dir, number)
        with explained_writes(path):
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file:
                tries = file.tell()
                file.write(b".")
        if tries >= ATTEMPTS:
            raise ProcessError(
                f"Shard {number} has ended its worker {tries} times.",
                cause="The system ends a process so when memory runs out.",
                hint="More --cpus-per-worker or fewer --workers leave each more memory; a smaller "
                "--batch-tokens takes less.",
            )
        yield
        path.unlink(missing_ok=True)

    def _open(self) -> tuple[ShardMaker, ShardReader]:
        if self._maker is None or self._reader is None:
            import torch

            settings = self._task.settings
            with suppress(OSError):
                os.chdir(self._task.folder)
            torch.set_num_threads(self._task.threads)
            self._check_folder()
            model = self._model()
            about = read_description(settings.output_dir)
            sink = open_sink(
                settings.output_dir, settings.format, settings.store_dtype, about.dimensions
            )
            self._reader = ShardReader(open_sources(settings), settings.shard_rows)
            self._maker = ShardMaker(settings, model, sink)
        return self._maker, self._reader

    def _check_folder(self) -> None:
        folder = self._task.settings.output_dir
        path = folder.absolute() / INDEX_FILE
        if path.is_file() and read_description(folder).fingerprint == self._task.fingerprint:
            return
        raise OutputError(
            f"The folder `{folder}` is not shared: {socket.gethostname()} has no such index there.",
            cause=f"{path} is what every machine of the cluster has to see.",
            hint="Choose an --output-dir on a disk that all of them mount at the same path.",
        )

    def _model(self) -> Path:
        name = self._task.settings.model
        model = resolve(name, SILENT)
        found = fingerprint(model)
        if found != self._task.fingerprint:
            raise CheckpointError(
                f"The model `{name}` on {socket.gethostname()} is another one.",
                cause=f"Its fingerprint is {found}, not {self._task.fingerprint}.",
                hint="Put the model on a disk that all machines share, or name id@revision.",
            )
        return model
