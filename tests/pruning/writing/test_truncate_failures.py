"""Writing that fails says why, stops at once and leaves nothing."""

from __future__ import annotations

import errno
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from puma_cli.checkpoint.output_folder import new_folder
from puma_cli.checkpoint.shard_index import weight_files
from puma_cli.errors import CheckpointError, OutputError
from puma_cli.progress import Reporter
from puma_cli.pruning.planning.plan import make_plan
from puma_cli.pruning.writing import byte_copy, truncate
from puma_cli.pruning.writing.truncate import write_weights

T = TypeVar("T")


class Acting(Reporter):
    """Calls `act` when the pieces of the weights are done."""

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        yield from items
        self.act()

    def act(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_stops_every_thread_and_leaves_nothing(
    sharded: Path,
    tmp_path: Path,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stopping(Reporter):
        def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
            assert total is not None
            assert total > 10
            yield next(iter(items))
            raise error

    monkeypatch.setattr(byte_copy, "CHUNK_BYTES", 5_000)

    def run() -> None:
        with new_folder(tmp_path / "cut") as folder:
            write_weights(make_plan(sharded, (0, 2)), folder, Stopping())

    with pytest.raises(error):
        run()
    assert [path.name for path in tmp_path.iterdir()] == ["parent"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("puma")]


@pytest.mark.parametrize(("harm", "word"), [("touch", "changed"), ("unlink", "vanished")])
def test_a_source_that_changes_meanwhile_is_named(
    sharded: Path, out: Path, harm: str, word: str
) -> None:
    victim = weight_files(sharded)[0]

    class Harming(Acting):
        def act(self) -> None:
            if harm == "touch":
                os.utime(victim, ns=(1, 1))
            else:
                victim.unlink()

    with pytest.raises(CheckpointError) as caught:
        write_weights(make_plan(sharded, (0, 2)), out, Harming())
    assert f"{word} while they were read" in caught.value.problem
    assert caught.value.hint


def test_files_are_on_the_disk_when_they_are_whole(
    sharded: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of a file's jobs waits for the disk; the one that begins to do so last sees it whole, but
    # may be overtaken here by the record of another.
    synced: dict[int, list[bytes]] = defaultdict(list)
    fsync = os.fsync

    def record(handle: int) -> None:
        status = os.fstat(handle)
        # A file opened for writing alone, such as the config's, cannot be read here.
        with suppress(OSError):
            synced[status.st_ino].append(os.pread(handle, status.st_size, 0))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(byte_copy, "CHUNK_BYTES", 5_000)
    write_weights(make_plan(sharded, (0, 2)), out)
    for file in weight_files(out):
        assert file.read_bytes() in synced[file.stat().st_ino]


@pytest.mark.parametrize(("code", "matters"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_only_a_disk_that_fails_to_keep_its_files_is_a_failure(
    sharded: Path, out: Path, monkeypatch: pytest.MonkeyPatch, code: int, matters: bool
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    plan = make_plan(sharded, (0, 2))
    monkeypatch.setattr(os, "fsync", refuse)
    # The JSON files have a wait of their own.
    monkeypatch.setattr(truncate, "write_json", lambda path, content: None)
    if matters:
        with pytest.raises(OSError, match=os.strerror(code)):
            write_weights(plan, out)
    else:
        write_weights(plan, out)


def test_a_source_that_is_gone_before_is_named(sharded: Path, out: Path) -> None:
    plan = make_plan(sharded, (0, 2))
    weight_files(sharded)[0].unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        write_weights(plan, out)


def test_a_disk_that_fills_is_named_and_nothing_stays(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", fill, raising=False)
    with pytest.raises(OutputError, match="disk is full"), new_folder(tmp_path / "cut") as folder:
        write_weights(make_plan(sharded, (0, 2)), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["parent"]


def test_a_file_of_another_size_than_planned_is_no_success(
    sharded: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truncate, "copy_jobs", lambda ranges: [])
    with pytest.raises(OutputError, match="bytes after writing"):
        write_weights(make_plan(sharded, (0, 2)), out)
