"""Files are read once until they change, and a broken memory costs time alone."""

from __future__ import annotations

import hashlib
import os
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from puma_cli.encoding.file_hashes import FileHashes

LONG_AGO = time.time_ns() - 10**12


def written(path: Path, content: bytes, at: int = LONG_AGO) -> Path:
    path.write_bytes(content)
    os.utime(path, ns=(at, at))
    return path


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "hashes.sqlite"


def test_a_file_is_read_once(tmp_path: Path, database: Path) -> None:
    files = [written(tmp_path / f"{n}", bytes([n]) * n) for n in range(5)]
    first, second = FileHashes(database), FileHashes(database)
    expected = {file: hashlib.sha256(file.read_bytes()).digest() for file in files}
    assert first.of(files) == expected == first.of(files)
    assert first.read == 5
    assert second.of(files) == expected
    assert second.read == 0
    again = FileHashes(database, rehash=True)
    assert again.of(files) == expected == again.of(files)
    assert again.read == 5


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_a_file_that_changed_is_read_again(tmp_path: Path, database: Path, change: str) -> None:
    file = written(tmp_path / "a", b"before")
    before = FileHashes(database).of([file])[file]
    if change == "size":
        written(file, b"afterwards")
    elif change == "time":
        written(file, b"behind", LONG_AGO + 1)
    else:
        written(tmp_path / "b", b"behind").replace(file)
    hashes = FileHashes(database)
    after = hashes.of([file])[file]
    assert hashes.read == 1
    assert after != before
    assert after == hashlib.sha256(file.read_bytes()).digest()


def test_what_only_rehash_can_see(tmp_path: Path, database: Path) -> None:
    """Size, time and inode are the same: the one change that goes unseen, until asked to look."""
    file = written(tmp_path / "a", b"before")
    before = FileHashes(database).of([file])[file]
    written(file, b"behind")
    assert FileHashes(database).of([file])[file] == before
    after = FileHashes(database, rehash=True).of([file])[file]
    assert after == hashlib.sha256(b"behind").digest()
    assert FileHashes(database).of([file])[file] == after


def test_a_file_that_has_just_changed_is_not_trusted(tmp_path: Path, database: Path) -> None:
    file = written(tmp_path / "a", b"before", time.time_ns())
    assert FileHashes(database).of([file])[file]
    again = FileHashes(database)
    again.of([file])
    assert again.read == 1


def test_what_cannot_be_read_has_no_hash(tmp_path: Path, database: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff\xfe")
    written(odd, b"odd")
    link = tmp_path / "link"
    link.symlink_to(odd)
    missing, folder = tmp_path / "missing", tmp_path
    for _ in range(2):
        found = FileHashes(database).of([odd, missing, folder, link])
        assert found[missing] is None and found[folder] is None
        assert found[odd] == found[link] == hashlib.sha256(b"odd").digest()


@pytest.mark.parametrize("state", ["rubbish", "folder", "other", "none"])
def test_a_broken_memory_costs_time_alone(tmp_path: Path, database: Path, state: str) -> None:
    import sqlite3

    file = written(tmp_path / "a", b"a")
    database.parent.mkdir()
    if state == "rubbish":
        database.write_bytes(b"no database " * 1_000)
    elif state == "folder":
        database.mkdir()
    elif state == "other":
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE files (name TEXT)")
        connection.close()
    for _ in range(3):
        hashes = FileHashes(None if state == "none" else database)
        assert hashes.of([file])[file] == hashlib.sha256(b"a").digest()
    # Rubbish is started anew by whoever comes next.
    assert hashes.read == (0 if state == "rubbish" else 1)


def _hash_all(database: Path, folder: Path) -> None:
    hashes = FileHashes(database)
    for file in sorted(folder.iterdir()):
        assert hashes.of([file])[file] == hashlib.sha256(file.read_bytes()).digest()


def test_several_processes_share_a_memory(tmp_path: Path, database: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for n in range(40):
        written(folder / f"{n}", bytes([n]))
    context = get_context("fork")
    started = [context.Process(target=_hash_all, args=(database, folder)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0, 0]
    hashes = FileHashes(database)
    hashes.of(folder.iterdir())
    assert hashes.read == 0
