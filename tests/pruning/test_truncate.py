"""The weights that stay are written bit by bit, in one file or several."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from puma_cli.pruning.plan import make_plan
from puma_cli.pruning.truncate import write_weights
from tests.pruning.conftest import weights_of


def test_kept_tensors_are_the_parents_bit_by_bit(parent: Path, tmp_path: Path) -> None:
    plan = make_plan(parent, (0, 2))
    write_weights(plan, tmp_path)
    before, after = weights_of(parent), weights_of(tmp_path)
    assert set(after) == {move.name for move in plan.moves}
    for move in plan.moves:
        old = before[move.entry.name]
        assert after[move.name].dtype == old.dtype
        assert torch.equal(after[move.name], old)
    assert json.loads((tmp_path / "config.json").read_text()) == plan.config


def test_half_precision_stays_half_precision(parents: dict[str, Path], tmp_path: Path) -> None:
    write_weights(make_plan(parents["half"], (0,)), tmp_path)
    assert {t.dtype for t in weights_of(tmp_path).values()} == {torch.float16}


def test_shards_hold_the_same_under_an_index(parents: dict[str, Path], tmp_path: Path) -> None:
    plan = make_plan(parents["sharded"], (0, 1))
    for name, limit in (("one", 10**9), ("many", 40_000)):
        (tmp_path / name).mkdir()
        write_weights(plan, tmp_path / name, shard_bytes=limit)
    shards = sorted((tmp_path / "many").glob("*.safetensors"))
    assert len(shards) > 1
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == plan.bytes_after
    one, many = weights_of(tmp_path / "one"), weights_of(tmp_path / "many")
    assert set(one) == set(many) == set(index["weight_map"])
    assert all(torch.equal(one[key], many[key]) for key in one)
    assert not (tmp_path / "one" / "model.safetensors.index.json").exists()
