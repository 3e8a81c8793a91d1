"""A plan says everything about a cut before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from puma_cli.checkpoint import decoder_keys
from puma_cli.errors import CheckpointError, ConfigError
from puma_cli.pruning.plan import depth_of, make_plan
from tests.pruning.conftest import edit_json, weights_of


def test_a_plan_counts_what_stays_and_what_goes(parents: dict[str, Path]) -> None:
    folder = parents["base"]
    plan = make_plan(folder, (0, 1, 3))
    tensors = weights_of(folder)
    gone = {name for name in tensors if "layers.2." in name}
    assert {drop.entry.name for drop in plan.dropped} == gone
    assert plan.bytes_before == sum(t.nbytes for t in tensors.values())
    assert plan.bytes_after == sum(t.nbytes for n, t in tensors.items() if n not in gone)
    assert plan.parameters == (plan.bytes_before // 4, plan.bytes_after // 4)
    layers = decoder_keys.LAYERS
    assert plan.parameters_after[layers] * 4 == plan.parameters_before[layers] * 3
    assert plan.parameters_after["vision"] == plan.parameters_before["vision"]
    assert not plan.first_only
    assert depth_of(folder) == plan.depth == 4
    assert json.loads(json.dumps(plan.summary()))["kept_layers"] == [0, 1, 3]


def test_names_stay_verbatim_but_for_the_layers_index(parents: dict[str, Path]) -> None:
    plan = make_plan(parents["tied"], (0, 3))
    renamed = {move.entry.name: move.name for move in plan.moves if move.entry.name != move.name}
    assert renamed
    for old, new in renamed.items():
        assert old.startswith("model.layers.3.")
        assert new == old.replace("model.layers.3.", "model.layers.1.")


def test_an_untied_head_goes_and_the_architecture_with_it(parents: dict[str, Path]) -> None:
    plan = make_plan(parents["untied"], range(4))
    assert [drop.entry.name for drop in plan.dropped] == ["lm_head.weight"]
    assert plan.config["architectures"] == ["Qwen2VLModel"]
    tied = make_plan(parents["tied"], range(2))
    assert tied.config["architectures"] == ["Qwen2VLForConditionalGeneration"]


def test_planning_writes_nothing(parents: dict[str, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in parents["base"].iterdir()}
    make_plan(parents["base"], (0,))
    assert {path: path.stat().st_mtime_ns for path in parents["base"].iterdir()} == before


def test_layers_out_of_range_are_refused(parents: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="no decoder layer 4"):
        make_plan(parents["base"], (0, 4))


def test_weights_that_contradict_the_config_are_refused(parent_copy: Path) -> None:
    edit_json(parent_copy / "config.json", lambda c: c["text_config"].update(num_hidden_layers=6))
    with pytest.raises(CheckpointError, match=r"holds 4 decoder layers.*says 6"):
        make_plan(parent_copy, (0, 1))


def test_a_missing_layer_is_refused(parent_copy: Path) -> None:
    tensors = {n: t for n, t in weights_of(parent_copy).items() if "layers.1." not in n}
    save_file(tensors, parent_copy / "model.safetensors")
    with pytest.raises(CheckpointError, match="lacks decoder layer 1"):
        make_plan(parent_copy, (0,))


def test_truncated_weights_are_refused(parent_copy: Path) -> None:
    weights = parent_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        make_plan(parent_copy, (0,))
