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


def entry(**changes: object) -> dict[str, dict[str, object]]:
    """Return the header of one float, with changes."""
    return {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


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
        ({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, b"", "unreadable"),
        (entry(dtype=["F32"]), b"1234", "unreadable"),
        (entry(shape=[True]), b"1234", "unreadable"),
        (entry(shape=[1.0]), b"1234", "unreadable"),
        (entry(shape=["1"]), b"1234", "unreadable"),
        (entry(shape=None), b"1234", "unreadable"),
        (entry(shape=[1] * 65), b"1234", "unreadable"),
        (entry(shape=[2**62, 2**62, 0], data_offsets=[0, 0]), b"", "unreadable"),
        (entry(shape=[2**64, 0], data_offsets=[0, 0]), b"", "unreadable"),
        (entry(shape=[2**62, 2**62]), b"1234", "cannot take"),
        (entry(data_offsets=[0, 4, 4]), b"1234", "unreadable"),
        (entry(data_offsets=[4, 0]), b"1234", "cannot take"),
        (entry(data_offsets=[0, 10**30]), b"1234", "unreadable"),
        (entry(more=1), b"1234", "unreadable"),
        ({**entry(), "y": entry()["x"]}, b"1234", "starts at"),
        ({**entry(), "__metadata__": {"format": 1}}, b"1234", "from text to text"),
        ({**entry(), "__metadata__": ["pt"]}, b"1234", "from text to text"),
        (b' {"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234", "not start"),
        (b'{"x":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}', b"1234", "twice"),
        (b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', b"1234", "NaN"),
        (b'{"x":' * 50_000, b"", "nested too deeply"),
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
    index.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint_headers(folder)
    del content["weight_map"]["no.such.weight"]
    names = list(content["weight_map"])
    twin = next(
        a
        for a in names
        if [content["weight_map"][b] for b in names].count(content["weight_map"][a]) > 1
    )
    kept = {a: file for a, file in content["weight_map"].items() if a != twin}
    index.write_text(json.dumps({"weight_map": kept}))
    with pytest.raises(CheckpointError, match=f"holds `{twin}`, of which its index says nothing"):
        checkpoint_headers(folder)
    kept = {a: file for a, file in content["weight_map"].items() if file != shard}
    index.write_text(json.dumps({"weight_map": kept}))
    with pytest.raises(CheckpointError, match=f"says nothing of its shard `{shard}`"):
        checkpoint_headers(folder)
    (folder / shard).unlink()
    assert name not in checkpoint_headers(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../other.safetensors",
        "/etc/other.safetensors",
        "a/b.safetensors",
        "a\\b.safetensors",
        "c:x.safetensors",
        ".hidden.safetensors",
        "..",
        "",
        "config.json",
        "model.safetensors\0",
        "a\n.safetensors",
        7,
        None,
        ["model.safetensors"],
    ],
)
def test_an_index_names_safetensors_files_beside_it_only(weights_copy: Path, name: object) -> None:
    (weights_copy / "model.safetensors").rename(weights_copy / "other.safetensors")
    index = weights_copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"norm.weight": name}}))
    with pytest.raises(CheckpointError, match="not a plain file"):
        checkpoint_headers(weights_copy)


@pytest.mark.parametrize("content", [{}, {"weight_map": {}}, {"weight_map": []}, []])
def test_an_index_without_a_map_is_refused(weights_copy: Path, content: object) -> None:
    (weights_copy / "model.safetensors").rename(weights_copy / "other.safetensors")
    (weights_copy / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError):
        checkpoint_headers(weights_copy)


def test_pickled_weights_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="pickled"):
        checkpoint_headers(tmp_path)
