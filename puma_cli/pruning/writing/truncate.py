"""Writing the weights and the config that a plan describes, at the speed of the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock

from puma_cli.checkpoint.layout import CONFIG, INDEX
from puma_cli.checkpoint.output_folder import write_json
from puma_cli.errors import CheckpointError, OutputError
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.planning.plan import PrunePlan
from puma_cli.pruning.writing.byte_copy import copy_jobs, unreadable
from puma_cli.pruning.writing.cast import cast_jobs
from puma_cli.pruning.writing.output_files import OutputFile, output_files
from puma_cli.pruning.writing.parallel import THREADS, Job, running

_NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_NO_LINK = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP}
    | {errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)


def write_weights(
    plan: PrunePlan,
    folder: Path,
    reporter: Reporter = SILENT,
    *,
    shard_bytes: int | None = None,
    link: bool = False,
) -> tuple[OutputFile, ...]:
    """Write the cut weights, their index if there are several files, and the config.

    Every tensor that is not cast keeps its bytes, which are copied without being decoded. The
    files are on the disk when this returns.

    Args:
        folder: an existing folder without weights.
        shard_bytes: see `output_files`.
        link: give files that stay as they are a second name instead of a copy, where the file
            system can. Such a file is then one with the parent's: a change to either is a change
            to both.

    Returns:
        The files, in order.

    Raises:
        CheckpointError: a parent's file cannot be read or changes meanwhile.
        NumericError: a finite number would become infinite by a cast.
        OSError: the disk is full; `new_folder` says so.
    """
    stamps = {path: _stamp(path) for path in {move.entry.file: None for move in plan.moves}}
    files = output_files(plan.moves, shard_bytes)
    jobs: list[Job] = []
    copied = False
    for file in files:
        target = folder / file.name
        if link and file.whole is not None:
            if _linked(file.whole, target):
                continue
            copied = True
        jobs += _jobs(file, target)
    if copied:
        reporter.note("The file system makes no links to the parent's weights: copying them.")
    with running(jobs, THREADS) as done:
        for _ in reporter.track(done, "write weights", total=len(jobs)):
            pass
    _check_unchanged(stamps)
    if len(files) > 1:
        write_json(folder / INDEX, _index(files))
    write_json(folder / CONFIG, plan.config)
    return files


def _jobs(file: OutputFile, target: Path) -> list[Job]:
    """Make the file with its header and return what fills it; the last job to end checks it."""
    with target.open("xb") as opened:
        opened.write(file.header)
    jobs: list[Job] = [*copy_jobs(file.ranges(target)), *cast_jobs(file.casts(target))]
    jobs = jobs or [lambda stop: None]  # a file of empty tensors is its header
    completion = _Completion(target, file.size, len(jobs))
    return [completion.after(job) for job in jobs]


class _Completion:
    """Puts a file on the disk piece by piece, and checks it when the last piece is there.

    One wait for the whole file at the end could not be interrupted: minutes, for a large file on a
    slow disk.
    """

    def __init__(self, path: Path, size: int, jobs: int) -> None:
        self.path = path
        self.size = size
        self._left = jobs
        self._lock = Lock()

    def after(self, job: Job) -> Job:
        """Return a job that does `job`, waits for the disk and, if it is the last, checks."""

        def run(stop: Event) -> None:
            job(stop)
            if stop.is_set():
                return
            found = self.sync()
            with self._lock:
                self._left -= 1
                last = not self._left
            if last and found != self.size:
                raise OutputError(
                    f"`{self.path.name}` has {found} bytes after writing, not {self.size}.",
                    cause="The file system lost some, or another program writes there too.",
                    hint="Choose another place with --output-dir.",
                )

        return run

    def sync(self) -> int:
        """Wait until what the file holds is on the disk; return the file's size."""
        with self.path.open("rb") as file:
            try:
                os.fsync(file.fileno())
            except OSError as error:
                # Some network file systems have no such call; what they cannot keep, others say.
                if error.errno not in _NO_SYNC:
                    raise
            return os.fstat(file.fileno()).st_size


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name; return False where the file system cannot."""
    try:
        # A hub snapshot's files are links into its cache, and a link to a link is no file.
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        if error.errno == errno.ENOENT:
            raise unreadable(source, error) from error
        raise
    return True


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return status.st_size, status.st_mtime_ns


def _check_unchanged(stamps: Mapping[Path, tuple[int, int]]) -> None:
    for path, stamp in stamps.items():
        found = None
        with suppress(CheckpointError):
            found = _stamp(path)
        if found != stamp:
            raise CheckpointError(
                f"The weights `{path}` {'changed' if found else 'vanished'} while they were read.",
                cause="What was written may be a mixture of two versions.",
                hint="Wait until nothing writes to the checkpoint, then run the command again.",
            )


def _index(files: Sequence[OutputFile]) -> dict[str, object]:
    moves = [(move, file.name) for file in files for move in file.moves]
    totals = {
        "total_size": sum(move.size for move, _ in moves),
        "total_parameters": sum(move.entry.parameters for move, _ in moves),
    }
    return {"metadata": totals, "weight_map": {move.name: name for move, name in moves}}
