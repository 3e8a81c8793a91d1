"""What goes into a store comes out by its key, whatever else happens to the files."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from puma_cli.encoding import shards
from puma_cli.encoding.identity import KEY_BYTES, Keys
from puma_cli.encoding.shards import read_shard, remove_abandoned, shard_files, write_shard
from puma_cli.encoding.store import Index, VectorStore
from puma_cli.encoding.vectors import Chosen, InMemory
from puma_cli.encoding.writing import Writer
from puma_cli.errors import OutputError

# Zeros at the end are part of a key, and the first bytes of many are alike.
RAW_KEY = st.builds(
    lambda head, tail: head + tail,
    st.sampled_from([b"\0" * 12, b"\xff" * 12, b"a" * 12]),
    st.binary(min_size=KEY_BYTES - 12, max_size=KEY_BYTES - 12),
)


def as_keys(raw: list[bytes]) -> Keys:
    return np.frombuffer(b"".join(raw), dtype=f"S{KEY_BYTES}")


def numbered(count: int, start: int = 0) -> Keys:
    return as_keys([(start + n).to_bytes(KEY_BYTES, "little") for n in range(count)])


def opened(folder: Path, dtype: torch.dtype = torch.float32) -> VectorStore:
    store = VectorStore(folder, {"model": "x"}, dtype)
    store.open(store.paths())
    return store


@given(
    groups=st.lists(st.lists(RAW_KEY, min_size=1, max_size=6), max_size=6),
    asked=st.lists(RAW_KEY, min_size=1, max_size=12),
)
@settings(max_examples=200)
def test_an_index_is_a_dictionary(groups: list[list[bytes]], asked: list[bytes]) -> None:
    index, expected = Index(), dict[bytes, tuple[int, int]]()
    for number, group in enumerate(groups):
        index.add(as_keys(group), number)
        for row, key in enumerate(group):
            expected.setdefault(key, (number, row))
    assert len(index) == len(expected)
    assert index.has(as_keys(asked)).tolist() == [key in expected for key in asked]
    known = [key for key in [*expected, *asked] if key in expected]
    if known:
        assert [tuple(place) for place in index.places(as_keys(known)).tolist()] == [
            expected[key] for key in known
        ]


@given(
    rows=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    data=st.data(),
)
@settings(max_examples=40)
def test_rows_come_back_by_key_in_any_order(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[int],
    dtype: torch.dtype,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("store") / "s"
    store = VectorStore(folder, {"model": "x"}, dtype)
    total = sum(rows)
    vectors = torch.randn(total, 5)
    start = 0
    for count in rows:
        store.write(numbered(count, start), vectors[start : start + count])
        start += count
    order = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=20))
    keys = numbered(total)[order]
    for each in (store, opened(folder, dtype)):
        assert len(each) == total and each.has(keys).all()
        assert not each.has(numbered(1, total)).any()
        found = each.vectors(keys)
        expected = vectors[order].to(dtype)
        assert (len(found), found.dimension) == (len(order), 5)
        assert torch.equal(found.rows(0, len(order)), expected)
        cut = data.draw(st.integers(0, len(order)))
        assert torch.equal(found.rows(cut, len(order)), expected[cut:])
        picked = data.draw(st.lists(st.integers(0, len(order) - 1), max_size=6))
        for way in (found, InMemory(expected), Chosen(InMemory(vectors.to(dtype)), order)):
            assert torch.equal(way.take(picked), expected[picked])
            assert torch.equal(way.rows(cut, len(order)), expected[cut:])


@pytest.mark.parametrize("damage", ["cut", "header", "vector", "key", "empty", "sum"])
def test_a_broken_file_counts_as_missing_and_is_removed(tmp_path: Path, damage: str) -> None:
    path = write_shard(tmp_path, numbered(4), torch.randn(4, 8))
    write_shard(tmp_path, numbered(2, 4), torch.randn(2, 8))
    raw = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    if damage == "cut":
        raw = raw[:-3]
    elif damage == "empty":
        raw = bytearray()
    elif damage == "sum":
        at = raw.index(b"crc32") + 8
        raw[at] = ord("0") if raw[at] != ord("0") else ord("1")
    else:
        # `keys` come first: the tensors lie in order of alignment, then of name.
        raw[{"header": 3, "vector": len(raw) - 5, "key": header + 5}[damage]] ^= 1
    path.write_bytes(raw)
    store = opened(tmp_path)
    assert not store.has(numbered(4)).any()
    assert store.has(numbered(2, 4)).all()
    assert not path.exists()
    store.write(numbered(4), torch.ones(4, 8))
    assert path.exists() and opened(tmp_path).has(numbered(6)).all()


def test_a_file_that_cannot_be_opened_now_is_left_alone(tmp_path: Path) -> None:
    gone = tmp_path / "gone.safetensors"
    assert read_shard(gone) is None
    gone.mkdir()
    assert read_shard(gone) is None and gone.exists()


def test_a_full_disk_is_explained_and_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    store.write(numbered(3), torch.ones(3, 2))
    whole = save_file

    def full(tensors: dict[str, torch.Tensor], path: Path, about: dict[str, str]) -> None:
        whole(tensors, path, about)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shards, "save_file", full)
    with pytest.raises(OutputError, match="full"):
        store.write(numbered(3, 3), torch.ones(3, 2))
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert len(shard_files(tmp_path)) == 1
    assert opened(tmp_path).has(numbered(3)).all()


def test_what_a_killed_process_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    fresh, old = (tmp_path / f"{name}.1234.partial" for name in ("fresh", "old"))
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 4_000,) * 2)
    remove_abandoned(tmp_path)
    assert fresh.exists() and not old.exists()
    assert not len(opened(tmp_path))


def test_a_writer_keeps_batches_whole_and_loses_none(tmp_path: Path) -> None:
    store, vectors = opened(tmp_path), torch.randn(23, 3)
    writer = Writer(store, rows=8)
    on_disk = []
    for start in range(0, 23, 3):
        stop = min(start + 3, 23)
        done = writer.add(numbered(stop - start, start), vectors[start:stop])
        on_disk.append(len(opened(tmp_path)))
        assert done == (on_disk[-1] == stop)
    writer.flush()
    writer.flush()
    assert on_disk == [0, 0, 9, 9, 9, 18, 18, 18]
    found = opened(tmp_path).vectors(numbered(23)).rows(0, 23)
    assert torch.equal(found, vectors)
    late = Writer(store, rows=1_000, seconds=0)
    assert late.add(numbered(1, 50), vectors[:1])
