"""A cut changes the fields that depend on the layers, and no other."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from puma_cli.errors import CheckpointError
from puma_cli.pruning.config_edit import check_supported, config_depth, edited_config

TYPES = ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]


def nested(**text: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen2_vl",
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "text_config": {"num_hidden_layers": 4, "max_window_layers": 80, **text},
        "vision_config": {"depth": 2, "num_hidden_layers": 9},
    }


def test_the_text_config_is_edited_where_it_is() -> None:
    config = nested(layer_types=TYPES)
    before = copy.deepcopy(config)
    edited, changes = edited_config(config, (0, 3), headless=False)
    assert config == before
    assert edited["text_config"] == {
        "num_hidden_layers": 2,
        "max_window_layers": 2,
        "layer_types": [TYPES[0], TYPES[3]],
    }
    assert edited["vision_config"] == config["vision_config"]
    assert edited["architectures"] == config["architectures"]
    assert {change.key for change in changes} == {
        "text_config.num_hidden_layers",
        "text_config.max_window_layers",
        "text_config.layer_types",
    }


def test_a_flat_config_and_one_with_both_are_edited() -> None:
    flat = {"model_type": "qwen2_vl", "num_hidden_layers": 28, "max_window_layers": 3}
    edited, _ = edited_config(flat, range(12), headless=False)
    assert edited == {"model_type": "qwen2_vl", "num_hidden_layers": 12, "max_window_layers": 3}
    both = {**flat, "text_config": {"num_hidden_layers": 28}}
    edited, _ = edited_config(both, range(12), headless=False)
    assert (edited["num_hidden_layers"], edited["text_config"]["num_hidden_layers"]) == (12, 12)
    assert config_depth(both) == 28


def test_without_its_own_head_a_checkpoint_is_of_the_base_class() -> None:
    edited, changes = edited_config(nested(), (0, 1), headless=True)
    assert edited["architectures"] == ["Qwen2VLModel"]
    assert changes[-1].key == "architectures"


def test_keeping_all_layers_changes_nothing() -> None:
    config = nested(layer_types=TYPES, max_window_layers=4)
    assert edited_config(config, range(4), headless=False) == (config, ())


def test_what_cannot_be_expressed_is_refused() -> None:
    with pytest.raises(CheckpointError, match="Only first layers"):
        edited_config(nested(use_sliding_window=True), (0, 3), headless=False)
    edited_config(nested(use_sliding_window=True), (0, 1), headless=False)
    with pytest.raises(CheckpointError, match=r"2 text_config\.layer_types"):
        edited_config(nested(layer_types=TYPES[:2]), (0, 3), headless=False)


@pytest.mark.parametrize("model_type", ["qwen2", "mllama", "qwen2_vl_text", None])
def test_other_architectures_are_refused_by_name(model_type: str | None) -> None:
    with pytest.raises(CheckpointError, match=f"`{model_type}`, which this version does not cut"):
        check_supported({"model_type": model_type}, "some/model")
    check_supported({"model_type": "qwen2_5_vl"}, "some/model")
