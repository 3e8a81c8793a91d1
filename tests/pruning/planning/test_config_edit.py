"""A cut changes the fields that depend on the layers, and no other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puma_cli.errors import CheckpointError
from puma_cli.pruning.planning.config_edit import ConfigChange, edited_config
from puma_cli.pruning.planning.decoder_section import find_section

TYPES = ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]


def nested(**text: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen2_vl",
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "text_config": {"num_hidden_layers": 4, "max_window_layers": 80, **text},
        "vision_config": {"depth": 2, "num_hidden_layers": 9, "layer_types": ["a", "b"]},
    }


def edit(
    config: dict[str, Any], kept: Sequence[int], depth: int = 4, **options: Any
) -> tuple[dict[str, Any], tuple[ConfigChange, ...]]:
    return edited_config(config, find_section(config, depth, "parent"), kept, **options)


def text_of(config: dict[str, Any], kept: Sequence[int], depth: int = 4) -> dict[str, Any]:
    found: dict[str, Any] = edit(config, kept, depth)[0]["text_config"]
    return found


def test_the_text_config_is_edited_where_it_is() -> None:
    config = nested(layer_types=TYPES)
    before = copy.deepcopy(config)
    edited, changes = edit(config, (0, 3))
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
    edited, _ = edit(flat, range(12), 28)
    assert edited == {"model_type": "qwen2_vl", "num_hidden_layers": 12, "max_window_layers": 3}
    both = {**flat, "text_config": {"num_hidden_layers": 28}}
    edited, _ = edit(both, range(12), 28)
    assert (edited["num_hidden_layers"], edited["text_config"]["num_hidden_layers"]) == (12, 12)
    assert edited["max_window_layers"] == 3


def test_another_number_at_the_root_is_left_alone() -> None:
    config = {**nested(), "num_hidden_layers": 9}
    assert edit(config, (0, 1))[0]["num_hidden_layers"] == 9


def test_a_depth_that_the_config_leaves_to_its_default_is_written() -> None:
    # As in the published LLaVA 1.5, whose text_config says no more than its vocabulary.
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    edited, changes = edit(config, (0, 1))
    assert edited["text_config"] == {"model_type": "llama", "num_hidden_layers": 2}
    assert changes == (ConfigChange("text_config.num_hidden_layers", None, 2),)


def test_keeping_all_layers_changes_nothing() -> None:
    config = nested(layer_types=TYPES, max_window_layers=4)
    assert edit(config, range(4)) == (config, ())


def test_without_its_own_head_a_checkpoint_is_of_the_base_class() -> None:
    edited, changes = edit(nested(), (0, 1), base="Qwen2VLModel")
    assert edited["architectures"] == ["Qwen2VLModel"]
    change = ConfigChange("architectures", ["Qwen2VLForConditionalGeneration"], ["Qwen2VLModel"])
    assert change in changes


def test_a_cast_changes_the_dtype_wherever_it_stands() -> None:
    config = {**nested(dtype="bfloat16"), "torch_dtype": "bfloat16"}
    config["vision_config"]["torch_dtype"] = "torch.float32"
    config["audio_config"] = {"dtype": None}
    edited, _ = edit(config, range(4), dtype="float16")
    assert edited["torch_dtype"] == "float16"
    assert edited["text_config"]["dtype"] == "float16"
    assert edited["vision_config"]["torch_dtype"] == "float16"
    assert edited["audio_config"] == {"dtype": None}


@given(depth=st.integers(2, 12), window=st.integers(0, 14), chosen=st.sets(st.integers(0, 11)))
def test_windows_follow_their_layers(depth: int, window: int, chosen: set[int]) -> None:
    """Without a list, transformers lets layers from `max_window_layers` on slide."""
    kept = sorted(layer for layer in chosen | {0} if layer < depth)
    section = {"num_hidden_layers": depth, "use_sliding_window": True, "max_window_layers": window}
    edited = text_of({"model_type": "qwen2_vl", "text_config": section}, kept, depth)
    before = [layer >= window for layer in range(depth)]
    after = [slot >= edited["max_window_layers"] for slot in range(len(kept))]
    assert after == [before[layer] for layer in kept]


@given(depth=st.integers(2, 12), chosen=st.sets(st.integers(0, 11)), period=st.integers(1, 7))
def test_a_list_made_up_from_positions_is_written_where_positions_change(
    depth: int, chosen: set[int], period: int
) -> None:
    kept = sorted(layer for layer in chosen | {0} if layer < depth)
    section: dict[str, Any] = {"num_hidden_layers": depth, "sliding_window_pattern": period}
    edited = text_of({"model_type": "gemma3", "text_config": section}, kept, depth)

    def made_up(count: int) -> list[str]:
        kinds = ("full_attention", "sliding_attention")
        return [kinds[bool((i + 1) % period)] for i in range(count)]

    before = made_up(depth)
    after = edited.get("layer_types") or made_up(edited["num_hidden_layers"])
    assert after == [before[layer] for layer in kept]
    assert ("layer_types" in edited) == (kept != list(range(len(kept))))


def test_lists_of_layer_numbers_are_filtered_and_renumbered() -> None:
    config = {
        "model_type": "mllama",
        "text_config": {"num_hidden_layers": 10, "cross_attention_layers": [3, 8]},
    }
    assert text_of(config, (0, 3, 4, 8), 10)["cross_attention_layers"] == [1, 3]
    assert text_of(config, range(5), 10)["cross_attention_layers"] == [3]
    del config["text_config"]["cross_attention_layers"]  # type: ignore[attr-defined]
    assert text_of(config, (0, 3, 4, 8), 10)["cross_attention_layers"] == [1, 3]


def test_mllama_keeps_a_layer_through_which_images_enter() -> None:
    config = {"model_type": "mllama", "text_config": {"num_hidden_layers": 10}}
    with pytest.raises(CheckpointError, match="never see an image") as caught:
        edit(config, range(3), 10)
    assert "--keep 4" in caught.value.hint
    edit(config, range(4), 10)


def test_layers_stay_that_image_features_are_added_to() -> None:
    config = {
        "model_type": "qwen3_vl",
        "text_config": {"num_hidden_layers": 6},
        "vision_config": {"deepstack_visual_indexes": [5, 11, 17]},
    }
    edited, _ = edit(config, (0, 1, 2, 5), 6)
    assert edited["vision_config"] == config["vision_config"]
    for kept in ((0, 1), (0, 1, 3), (0, 2, 3, 4)):
        with pytest.raises(CheckpointError, match="miss features of the images"):
            edit(config, kept, 6)


def test_leading_dense_layers_are_counted() -> None:
    text = {"num_hidden_layers": 6, "first_k_dense_replace": 3}
    config = {"model_type": "glm4v_moe", "text_config": text}
    assert text_of(config, (0, 2, 4), 6)["first_k_dense_replace"] == 2
    assert text_of(config, range(2), 6)["first_k_dense_replace"] == 2
    del text["first_k_dense_replace"]
    # The default is 1: without layer 0 no dense layer is left, and the default would be wrong.
    assert text_of(config, (1, 2), 6)["first_k_dense_replace"] == 0
    assert "first_k_dense_replace" not in text_of(config, (0, 2), 6)


def test_llama4_keeps_every_layers_kind() -> None:
    text = {"num_hidden_layers": 8, "no_rope_layers": [], "interleave_moe_layer_step": 2}
    config = {"model_type": "llama4", "text_config": text}
    edited = text_of(config, (0, 3, 5), 8)
    assert edited["no_rope_layers"] == [1, 0, 1]
    assert edited["moe_layers"] == [1, 2]
    assert text_of(config, range(4), 8) == {**text, "num_hidden_layers": 4}


def test_kinds_that_follow_from_the_number_allow_first_layers_only() -> None:
    text = {"num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [1, 3]}
    config = {"model_type": "qwen3_moe", **text}
    assert edit(config, range(3), 6)[0]["mlp_only_layers"] == [1]
    with pytest.raises(CheckpointError, match="Only first layers"):
        edit(config, (0, 2), 6)
    config["decoder_sparse_step"] = 1
    assert edit(config, (0, 3), 6)[0]["mlp_only_layers"] == [1]


def test_a_last_layer_of_the_wrong_kind_is_refused() -> None:
    text = {"num_hidden_layers": 12, "hidden_size_per_layer_input": 0}
    config = {"model_type": "gemma4", "text_config": text}
    assert text_of(config, range(6), 12)["num_hidden_layers"] == 6
    with pytest.raises(CheckpointError, match="Layer 6 cannot become the last one") as caught:
        edit(config, range(7), 12)
    assert "6 or 12" in caught.value.hint
    text["per_layer_config"] = {"5": {"head_dim": 8}, "11": {"head_dim": 9}}  # type: ignore[assignment]
    assert text_of(config, (0, 1, 11), 12)["per_layer_config"] == {"2": {"head_dim": 9}}


@pytest.mark.parametrize(
    "text", [{"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 0}, {}]
)
def test_shared_keys_and_per_layer_widths_are_refused(text: dict[str, Any]) -> None:
    config = {"model_type": "gemma4", "text_config": {"num_hidden_layers": 12, **text}}
    with pytest.raises(CheckpointError, match="cannot be cut safely"):
        edit(config, range(6), 12)


def test_lists_of_another_length_are_refused() -> None:
    with pytest.raises(CheckpointError, match="2 values of layer_types for 4 decoder layers"):
        edit(nested(layer_types=TYPES[:2]), (0, 3))
    with pytest.raises(CheckpointError, match="layer_types for 4"):
        edit(nested(layer_types="full"), (0, 1))
    config = {"model_type": "mllama", "text_config": {"cross_attention_layers": [1, "x"]}}
    with pytest.raises(CheckpointError, match="no list of layers"):
        edit(config, (0, 1))
    with pytest.raises(CheckpointError, match="no whole number"):
        edit(nested(max_window_layers=-1), (0, 1))
    with pytest.raises(CheckpointError, match="no period"):
        edit({"model_type": "gemma3", "text_config": {"sliding_window_pattern": 0}}, (0, 2))


def test_layers_that_strings_name_are_renumbered() -> None:
    quantised = {
        "modules_to_not_convert": [
            "lm_head",
            "visual.layers.1.mlp",
            "model.layers.1.mlp.gate",
            "model.layers.3.mlp.gate",
        ],
        "dynamic": {r"-:model\.layers\.3\.mlp": {}, r"+:.*\.layers\.\d+\.attn": {"bits": 4}},
    }
    config = {**nested(), "quantization_config": quantised}
    assert edit(config, (0, 3))[0]["quantization_config"] == {
        "modules_to_not_convert": ["lm_head", "visual.layers.1.mlp", "model.layers.1.mlp.gate"],
        "dynamic": {r"-:model\.layers\.1\.mlp": {}, r"+:.*\.layers\.\d+\.attn": {"bits": 4}},
    }
    config["quantization_config"] = {"ignore": [r"re:.*layers\.(1|3)\.mlp"]}
    with pytest.raises(CheckpointError, match="by the pattern"):
        edit(config, (0, 3))
    edit(config, (0, 1))
    config["quantization_config"] = {"first": "model.layers.2"}
    with pytest.raises(CheckpointError, match="a layer that is not kept"):
        edit(config, (0, 3))


def test_changes_are_put_in_words() -> None:
    change = ConfigChange("x", None, ["sliding_attention"] * 30)
    assert change.words == ("none", "30 values")
    assert ConfigChange("x", [3, 8], []).words == ("3, 8", "none")
    assert ConfigChange("x", True, "y" * 99).words == ("True", "y" * 57 + "...")
