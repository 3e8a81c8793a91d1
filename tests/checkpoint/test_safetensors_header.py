"""Headers say what is in the weights, and broken weights are told apart."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from puma_cli.checkpoint.safetensors_header import checkpoint_headers, read_header
from puma_cli.errors import CheckpointError
from tests.checkpoint.models import write_base


def write_raw(path: Path, header: object, data: bytes) -> Path:
    raw = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def test_the_header_agrees_with_the_reference_reader(base_weights: Path) -> None:
    path = base_weights / "model.safetensors"
    header = read_header(path)
    with safe_open(path, "pt") as reference:
        assert set(header.tensors) == set(reference.keys())
        for name, entry in header.tensors.items():
            tensor = reference.get_tensor(name)
            assert entry.shape == tuple(tensor.shape)
            assert entry.parameters == tensor.numel()
            with path.open("rb") as file:
                file.seek(entry.start)
                raw = bytearray(file.read(entry.size))
            assert torch.equal(torch.frombuffer(raw, dtype=tensor.dtype), tensor.flatten())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_dtypes_are_named(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"x": torch.zeros(3, 2, dtype=dtype)}, tmp_path / "a.safetensors")
    entry = read_header(tmp_path / "a.safetensors").tensors["x"]
    assert entry.size == 6 * dtype.itemsize


def test_truncation_is_named_with_the_file(weights_copy: Path) -> None:
    path = weights_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*truncated"):
        read_header(path)


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        (b"", b"", "not JSON"),
        (b"[1]", b"", "not a JSON object"),
        ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234", "cannot take"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678", "starts at"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"12345", "should have"),
        ({"x": {"dtype": "Q7", "shape": [1], "data_offsets": [0, 4]}}, b"1234", "unreadable"),
        ({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, b"", "cannot take"),
        ({"x": 3}, b"", "unreadable"),
    ],
)
def test_garbage_is_refused_with_its_cause(
    tmp_path: Path, header: object, data: bytes, says: str
) -> None:
    path = write_raw(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert says in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError):
        read_header(tmp_path / "bad.safetensors")


def test_shards_are_merged_and_a_missing_one_is_named(tmp_path: Path, base_weights: Path) -> None:
    folder = write_base(tmp_path / "sharded", max_shard_size="40KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    merged = checkpoint_headers(folder)
    assert set(merged) == set(checkpoint_headers(base_weights))
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=shards[1].name):
        checkpoint_headers(folder)


def test_an_index_that_lies_or_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "sharded", max_shard_size="40KB")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    name, shard = next(iter(content["weight_map"].items()))
    content["weight_map"]["no.such.weight"] = shard
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"no\.such\.weight"):
        checkpoint_headers(folder)
    content["weight_map"] = {name: "../other.safetensors"}
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="not a plain file"):
        checkpoint_headers(folder)
    index.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint_headers(folder)


def test_pickled_weights_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="pickled"):
        checkpoint_headers(tmp_path)
