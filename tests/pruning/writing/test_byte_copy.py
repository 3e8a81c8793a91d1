"""Ranges arrive byte for byte, whatever the system can do, and every failure is named."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puma_cli.errors import CheckpointError
from puma_cli.pruning.writing import byte_copy
from puma_cli.pruning.writing.byte_copy import Range, copy_jobs, grouped

KernelCopy = Callable[[int, int, int, int, int], int]


def refusing(code: int) -> KernelCopy:
    def copy(*_: int) -> int:
        raise OSError(code, os.strerror(code))

    return copy


def in_steps_of(step: int, then: KernelCopy | None = None) -> KernelCopy:
    """Copy at most `step` bytes a call, as the kernel may; after three calls do as `then`."""
    calls = [0]

    def copy(source: int, target: int, count: int, start: int, place: int) -> int:
        calls[0] += 1
        if then is not None and calls[0] > 3:
            return then(source, target, count, start, place)
        return os.pwrite(target, os.pread(source, min(step, count), start), place)

    return copy


WAYS: dict[str, KernelCopy | None] = {
    "the system's own": getattr(os, "copy_file_range", None),
    "absent": None,
    "short": in_steps_of(7),
    "nothing copied": lambda *_: 0,
    "stops early": in_steps_of(5, lambda *_: 0),
    "refused midway": in_steps_of(5, refusing(errno.EINVAL)),
    **{
        errno.errorcode[code]: refusing(code)
        for code in (
            errno.EXDEV,
            errno.EINVAL,
            errno.ENOSYS,
            errno.EOPNOTSUPP,
            errno.EPERM,
            errno.EIO,
        )
    },
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in which a system copies, or refuses to copy, inside the kernel."""
    copy = WAYS[request.param]
    if copy is None:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    else:
        monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
    # Small ones, so that every range takes several jobs, calls and buffers.
    monkeypatch.setattr(byte_copy, "CHUNK_BYTES", 100)
    monkeypatch.setattr(byte_copy, "CALL_BYTES", 33)
    monkeypatch.setattr(byte_copy, "BUFFER_BYTES", 11)
    return str(request.param)


def copy_all(ranges: list[Range]) -> None:
    for job in copy_jobs(ranges):
        job(Event())


@pytest.mark.usefixtures("way")
def test_ranges_arrive_where_they_belong(tmp_path: Path) -> None:
    sources = [tmp_path / "a", tmp_path / "b"]
    content = [os.urandom(1500), os.urandom(700)]
    for path, data in zip(sources, content, strict=True):
        path.write_bytes(data)
    target = tmp_path / "out"
    target.write_bytes(b"header..")
    asked = [(0, 3, 1000, 8), (1, 100, 600, 1008), (0, 1499, 1, 1608), (0, 1100, 40, 1609)]
    copy_all([Range(sources[i], start, target, place, size) for i, start, size, place in asked])
    parts = [content[i][start : start + size] for i, start, size, _ in asked]
    assert target.read_bytes() == b"header.." + b"".join(parts)


def test_every_way_was_tried(way: str, tmp_path: Path) -> None:
    """An early 0 and a refusal midway go on from where the kernel stopped, not from the start."""
    (tmp_path / "a").write_bytes(bytes(range(90)))
    (tmp_path / "out").touch()
    writes: list[int] = []
    plain: Any = byte_copy.write_all

    def count(target: Any, view: memoryview) -> None:
        writes.append(len(view))
        plain(target, view)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_copy, "write_all", count)
        copy_all([Range(tmp_path / "a", 0, tmp_path / "out", 0, 90)])
    assert (tmp_path / "out").read_bytes() == bytes(range(90))
    if way == "short":
        assert not writes
    elif way in {"absent", "nothing copied", "EXDEV", "EIO"}:
        assert sum(writes) == 90


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("missing", [1, 50, 200])
def test_a_source_that_ends_early_is_named(tmp_path: Path, missing: int) -> None:
    (tmp_path / "a").write_bytes(bytes(250 - missing))
    (tmp_path / "out").touch()
    with pytest.raises(CheckpointError, match=r"`.*a` became shorter") as caught:
        copy_all([Range(tmp_path / "a", 0, tmp_path / "out", 0, 250)])
    assert caught.value.hint


def test_a_source_that_is_gone_or_unreadable_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(CheckpointError, match="No such file"):
        copy_all([Range(tmp_path / "gone", 0, tmp_path / "out", 0, 1)])
    with pytest.raises(CheckpointError, match="cannot be read"):
        copy_all([Range(tmp_path, 0, tmp_path / "out", 0, 1)])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_passes_through(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", refusing(code), raising=False)
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "out").touch()
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        copy_all([Range(tmp_path / "a", 0, tmp_path / "out", 0, 3)])
    assert caught.value.errno == code


def test_a_real_full_device_passes_through(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "a").write_bytes(b"abc")
    with pytest.raises(OSError, match="No space left"):
        copy_all([Range(tmp_path / "a", 0, Path("/dev/full"), 0, 3)])


@pytest.mark.usefixtures("way")
def test_a_stopped_job_copies_no_further(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(90))
    (tmp_path / "out").touch()
    stop = Event()
    stop.set()
    for job in copy_jobs([Range(tmp_path / "a", 0, tmp_path / "out", 0, 90)]):
        job(stop)
    assert (tmp_path / "out").stat().st_size == 0


def test_no_call_exceeds_what_the_kernel_takes() -> None:
    assert 0 < byte_copy.CALL_BYTES <= 2_147_479_552


SIZES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 350)), max_size=30)


@given(SIZES)
def test_jobs_cover_every_byte_once_in_order(sizes: list[tuple[str, int]]) -> None:
    place, ranges = 0, []
    for source, size in sizes:
        ranges.append(Range(Path(source), 10 * place, Path("out"), place, size))
        place += size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_copy, "CHUNK_BYTES", 100)
        jobs = copy_jobs(ranges)
    pieces = [piece for job in jobs for piece in job.ranges]
    assert [p.place for p in pieces] == sorted(p.place for p in pieces)
    covered = [
        (p.source, p.start + i, p.place + i) for p in pieces for i in (0, p.size - 1) if p.size
    ]
    wanted = {(r.source, r.start + i, r.place + i) for r in ranges for i in range(r.size)}
    assert set(covered) <= wanted
    assert sum(p.size for p in pieces) == len(wanted) == place
    assert all(a.place + a.size == b.place for a, b in pairwise(pieces))
    for job in jobs:
        assert sum(p.size for p in job.ranges) <= 100
        assert len({(p.source, p.target) for p in job.ranges}) == 1


def test_thousands_of_small_pieces_make_few_jobs() -> None:
    ranges = [Range(Path("a"), 3 * i, Path("out"), i, 1) for i in range(50_000)]
    assert len(list(grouped(ranges))) == 1
