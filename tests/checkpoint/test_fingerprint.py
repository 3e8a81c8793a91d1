"""Fingerprints change with what a folder computes, and cost next to nothing."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from puma_cli.checkpoint.fingerprint import fingerprint, full_hash, identify, is_unchanged
from puma_cli.checkpoint.safetensors_header import read_header
from puma_cli.errors import CheckpointError


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_a_copy_has_the_same_fingerprint(base_weights: Path, weights_copy: Path) -> None:
    assert fingerprint(base_weights) == fingerprint(weights_copy)
    assert fingerprint(base_weights).startswith("sampled-sha256:")
    assert full_hash(base_weights) == full_hash(weights_copy)
    assert full_hash(base_weights).startswith("sha256:")


def test_any_tensor_that_changes_at_a_sampled_byte_shows(weights_copy: Path) -> None:
    path = weights_copy / "model.safetensors"
    before = fingerprint(weights_copy)
    for entry in read_header(path).tensors.values():
        for offset in (entry.start, entry.end - 1):
            flip(path, offset)
            assert fingerprint(weights_copy) != before, entry.name
            flip(path, offset)
    assert fingerprint(weights_copy) == before


def test_the_full_hash_sees_every_byte(weights_copy: Path) -> None:
    path = weights_copy / "model.safetensors"
    entry = max(read_header(path).tensors.values(), key=lambda entry: entry.size)
    sampled, full = fingerprint(weights_copy), full_hash(weights_copy)
    flip(path, entry.start + 300)
    assert fingerprint(weights_copy) == sampled
    assert full_hash(weights_copy) != full


def test_config_embedder_and_side_files_count_but_history_does_not(weights_copy: Path) -> None:
    before = fingerprint(weights_copy)
    (weights_copy / "puma.json").write_text("{}")
    (weights_copy / "README.md").write_text("# card")
    assert fingerprint(weights_copy) == before
    config = json.loads((weights_copy / "config.json").read_text())
    config["text_config"]["rms_norm_eps"] = 2e-6
    (weights_copy / "config.json").write_text(json.dumps(config, indent=2))
    changed = fingerprint(weights_copy)
    assert changed != before
    (weights_copy / "embedder.json").write_text("{}")
    assert fingerprint(weights_copy) != changed


def test_a_large_file_costs_milliseconds(tmp_path: Path, base_weights: Path) -> None:
    shutil.copy(base_weights / "config.json", tmp_path)
    tensors = {f"model.layers.{i}.w": torch.zeros(256, 1024) for i in range(100)}
    save_file(tensors, tmp_path / "model.safetensors")
    start = time.perf_counter()
    fingerprint(tmp_path)
    sampled = time.perf_counter() - start
    start = time.perf_counter()
    full_hash(tmp_path)
    assert sampled < (time.perf_counter() - start) / 3


def test_a_data_set_is_told_by_its_lines_not_its_images(tmp_path: Path) -> None:
    (tmp_path / "query" / "test").mkdir(parents=True)
    (tmp_path / "mbeir_images").mkdir()
    lines = tmp_path / "query" / "test" / "mbeir_x_task0_test.jsonl"
    lines.write_text('{"qid": "1:1"}\n')
    before = fingerprint(tmp_path)
    (tmp_path / "mbeir_images" / "a.png").write_bytes(b"x")
    assert fingerprint(tmp_path) == before
    lines.write_text('{"qid": "1:2"}\n')
    assert fingerprint(tmp_path) != before


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "shop/a.jsonl", "shop/a.parquet"])
@pytest.mark.parametrize("full", [False, True])
def test_tables_of_pairs_are_told_by_their_bytes(tmp_path: Path, name: str, full: bool) -> None:
    table = tmp_path / name
    table.parent.mkdir(exist_ok=True)
    table.write_bytes(bytes(range(100)))
    of_file, of_folder = identify(table, full), identify(tmp_path, full)
    assert is_unchanged(table, of_file) and is_unchanged(tmp_path, of_folder)
    flip(table, 50)
    assert not is_unchanged(table, of_file) and not is_unchanged(tmp_path, of_folder)


def test_the_weights_of_a_head_count_like_the_models(weights_copy: Path) -> None:
    (weights_copy / "embedder.json").write_text('{"head": "bridge.safetensors"}')
    save_file({"weight": torch.zeros(64, 64)}, weights_copy / "bridge.safetensors")
    before = fingerprint(weights_copy)
    flip(
        weights_copy / "bridge.safetensors",
        (weights_copy / "bridge.safetensors").stat().st_size - 1,
    )
    assert fingerprint(weights_copy) != before
    (weights_copy / "embedder.json").write_text('{"head": "../bridge.safetensors"}')
    assert fingerprint(weights_copy) != before


def test_a_commit_is_told_by_the_name_of_its_snapshot(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    assert is_unchanged(folder, "commit:" + "a" * 40)
    assert not is_unchanged(folder, "commit:" + "b" * 40)


def test_broken_weights_have_no_fingerprint(weights_copy: Path) -> None:
    (weights_copy / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError):
        fingerprint(weights_copy)


@pytest.mark.parametrize("full", [False, True])
def test_a_recorded_hash_of_either_kind_tells_a_change(weights_copy: Path, full: bool) -> None:
    recorded = identify(weights_copy, full)
    assert recorded == (full_hash if full else fingerprint)(weights_copy)
    assert is_unchanged(weights_copy, recorded)
    (weights_copy / "config.json").write_text("{}", encoding="utf-8")
    assert not is_unchanged(weights_copy, recorded)
