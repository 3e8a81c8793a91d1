"""Files are whole, without holes, aligned and few, and hold what the parent holds."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from puma_cli.checkpoint.safetensors_header import DTYPE_BITS, read_header
from puma_cli.errors import CheckpointError
from puma_cli.pruning.planning.plan import Move
from puma_cli.pruning.writing.output_files import OutputFile, bytes_to_write, output_files
from tests.pruning.raw_weights import Raw, read_raw, write_raw


def u8(data: bytes) -> Raw:
    return "U8", (len(data),), data


def moves_of(path: Path, *names: str, **renamed: str) -> list[Move]:
    entries = read_header(path).tensors
    kept = names or tuple(entries)
    return [Move(entries[name], renamed.get(name, name), entries[name].dtype) for name in kept]


def fill(file: OutputFile, folder: Path) -> Path:
    """Write a file from its header and ranges, in the simplest way."""
    target = folder / file.name
    data = bytearray(file.size)
    data[: len(file.header)] = file.header
    covered = len(file.header)
    for piece in file.ranges(target):
        source = piece.source.read_bytes()[piece.start : piece.start + piece.size]
        data[piece.place : piece.place + piece.size] = source
        covered += piece.size
    assert covered == file.size
    target.write_bytes(data)
    return target


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Three files of four tensors each, of 1,000 bytes in all."""
    paths = [tmp_path / f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    for i, path in enumerate(paths):
        tensors = {f"t{i}.{j}": u8(os.urandom(100 * j + 100)) for j in range(4)}
        write_raw(path, tensors, {"format": "pt", "shard": str(i)})
    return paths


def test_a_parents_file_makes_a_file_and_an_unneeded_one_none(
    shards: list[Path], tmp_path: Path
) -> None:
    first, last = moves_of(shards[0], "t0.1", "t0.3"), moves_of(shards[2])
    files = output_files([*first, *last])
    assert [file.name for file in files] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert [file.whole for file in files] == [None, shards[2]]
    (tmp_path / "out").mkdir()
    written, metadata, _ = read_raw(fill(files[0], tmp_path / "out"))
    parent = read_raw(shards[0])[0]
    assert list(written) == ["t0.1", "t0.3"]
    assert written == {name: parent[name] for name in written}
    assert metadata == {"format": "pt", "shard": "0"}
    assert fill(files[1], tmp_path / "out").read_bytes() == shards[2].read_bytes()
    assert output_files(first)[0].name == "model.safetensors"


def test_a_file_is_whole_only_as_it_is(shards: list[Path]) -> None:
    (path, _, _) = shards
    assert output_files(moves_of(path))[0].whole == path
    renamed = moves_of(path, **{"t0.2": "other"})
    assert output_files(renamed)[0].whole is None
    cast = [Move(move.entry, move.name, "I8") for move in moves_of(path)]
    assert output_files(cast)[0].whole is None
    assert output_files(moves_of(path)[1:])[0].whole is None


def test_neighbours_are_one_range(shards: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "out"
    (file,) = output_files(moves_of(shards[0], "t0.0", "t0.1", "t0.3"))
    assert [piece.size for piece in file.ranges(target)] == [300, 400]
    many = {f"t{i:05d}": u8(b"ab") for i in range(5000)}
    write_raw(shards[1], many, None)
    (file,) = output_files(moves_of(shards[1], **{"t00000": "renamed"}))
    assert [piece.size for piece in file.ranges(target)] == [10_000]


def test_files_are_cut_again_at_a_size(shards: list[Path], tmp_path: Path) -> None:
    moves = [move for path in shards for move in moves_of(path)]
    files = output_files(moves, shard_bytes=700)
    assert len({file.name for file in files}) == len(files)
    assert [move for file in files for move in file.moves] == moves
    for file in files:
        assert sum(move.size for move in file.moves) <= 700
    for left, right in pairwise(files):
        assert sum(move.size for move in left.moves) + right.moves[0].size > 700
    # Only what all its parents' files say is said of a file made from several.
    (tmp_path / "out").mkdir()
    both = next(file for file in files if len({move.entry.file for move in file.moves}) == 2)
    assert read_raw(fill(both, tmp_path / "out"))[1] == {"format": "pt"}
    # A single tensor may be larger, and a file that is the parent's all the same stays whole.
    assert [len(file.moves) for file in output_files(moves[:3], shard_bytes=1)] == [1, 1, 1]
    assert [f.whole for f in output_files(moves, shard_bytes=1000)] == shards


def test_linked_files_need_no_space(shards: list[Path]) -> None:
    files = output_files([*moves_of(shards[0]), *moves_of(shards[1], "t1.0")])
    assert bytes_to_write(files) == shards[0].stat().st_size + files[1].size
    assert bytes_to_write(files, link=True) == files[1].size


def test_an_odd_tensor_between_others_costs_nobody_their_alignment(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    wide = os.urandom(16)
    tensors: dict[str, Raw] = {
        "kept": u8(b"abc"),
        "gone": u8(b"fives"),
        "wide": ("F64", (2,), wide),
        "half": ("BF16", (3,), b"\0\x3f" * 3),
    }
    write_raw(path, tensors, {"format": "pt"})
    (file,) = output_files(moves_of(path, "kept", "wide", "half"))
    (tmp_path / "out").mkdir()
    written = fill(file, tmp_path / "out")
    assert read_raw(written)[0] == {name: tensors[name] for name in ("kept", "wide", "half")}
    assert load_file(written)["wide"].numpy().tobytes() == wide
    for entry in read_header(written).tensors.values():
        assert entry.start % (DTYPE_BITS[entry.dtype] // 8) == 0


def test_neighbours_that_alignment_parts_are_two_ranges(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors: dict[str, Raw] = {
        "a": ("F16", (1,), b"ab"),
        "b": u8(b"cde"),
        "c": ("F32", (1,), b"1" * 4),
    }
    write_raw(path, tensors, None)
    entries = read_header(path).tensors
    moves = [
        Move(entry, name, "BF16" if name == "c" else entry.dtype) for name, entry in entries.items()
    ]
    (file,) = output_files(moves)
    assert [move.name for move in file.moves] == ["a", "c", "b"]
    origin = len(file.header)
    pieces = [(piece.start, piece.place - origin, piece.size) for piece in file.ranges(tmp_path)]
    assert pieces == [(entries["a"].start, 0, 2), (entries["b"].start, 4, 3)]
    assert [(cast.place - origin, cast.size) for cast in file.casts(tmp_path)] == [(2, 4)]


def test_files_still_to_be_downloaded_are_planned_too(shards: list[Path]) -> None:
    moves = [*moves_of(shards[0]), *moves_of(shards[1])]
    before = output_files(moves)
    shards[1].unlink()
    after = output_files(moves)
    assert [file.name for file in after] == [file.name for file in before]
    assert [file.whole for file in after] == [shards[0], None]
    assert abs(bytes_to_write(after) - bytes_to_write(before)) < 200


def test_weights_that_changed_since_they_were_planned_are_refused(shards: list[Path]) -> None:
    moves = moves_of(shards[0])
    write_raw(shards[0], {"t0.0": u8(b"x" * 1000)}, None)
    with pytest.raises(CheckpointError, match="changed after the cut was planned"):
        output_files(moves)


def test_two_tensors_of_one_name_are_refused(shards: list[Path]) -> None:
    moves = [*moves_of(shards[0]), *moves_of(shards[1], **{"t1.0": "t0.0"})]
    with pytest.raises(CheckpointError, match=r"would be named `t0\.0`"):
        output_files(moves)


DTYPES = ("F64", "I64", "F32", "BF16", "F16", "U8", "BOOL")
TENSORS = st.lists(
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 2)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=TENSORS, keep=st.data(), limit=st.none() | st.integers(1, 200))
def test_any_tensors_survive_bit_by_bit(
    tmp_path: Path,
    tensors: list[tuple[str, list[int], int]],
    keep: st.DataObject,
    limit: int | None,
) -> None:
    """Any dtypes, odd and empty shapes, any choice of tensors, any size of files."""
    parents: dict[str, dict[str, Raw]] = {}
    for number, (dtype, shape, shard) in enumerate(tensors):
        elements = 1
        for size in shape:
            elements *= size
        data = os.urandom(elements * DTYPE_BITS[dtype] // 8)
        if dtype == "BOOL":
            data = bytes(byte & 1 for byte in data)
        parents.setdefault(f"p{shard}", {})[f"t{number}é"] = (dtype, tuple(shape), data)
    moves: list[Move] = []
    for stem, content in sorted(parents.items()):
        write_raw(tmp_path / stem, content, None)
        moves += moves_of(tmp_path / stem)
    chosen = keep.draw(st.lists(st.sampled_from(moves), min_size=1, unique_by=lambda m: m.name))
    kept = [move for move in moves if move in chosen]
    found: dict[str, Raw] = {}
    for file in output_files(kept, limit):
        written, _, origin = read_raw(fill(file, tmp_path))
        assert not found.keys() & written.keys()
        found |= written
        assert origin % 8 == 0
        assert read_header(tmp_path / file.name).tensors.keys() == written.keys()
        if file.whole is None:
            with safe_open(tmp_path / file.name, framework="pt") as opened:
                assert all(opened.get_tensor(name) is not None for name in written)
    everything = {name: raw for content in parents.values() for name, raw in content.items()}
    assert found == {move.name: everything[move.name] for move in kept}
