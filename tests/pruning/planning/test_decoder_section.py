"""Architectures are known by name, understood by their fields, or refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from puma_cli.errors import CheckpointError
from puma_cli.pruning.planning.config_edit import edited_config
from puma_cli.pruning.planning.decoder_section import find_section
from puma_cli.pruning.planning.families import FAMILIES


def unknown(**fields: Any) -> dict[str, Any]:
    return {"model_type": "nobody_knows", "num_hidden_layers": 4, **fields}


def test_a_text_model_inside_another_brings_its_own_facts() -> None:
    for inner in ("llama", "qwen2", "gemma2"):
        config = {"model_type": "llava", "text_config": {"model_type": inner}}
        section = find_section(config, 4, "x")
        assert section.path == ("text_config",)
        assert section.whole is FAMILIES["llava"]
        assert section.decoder is FAMILIES[inner]
    assert (
        find_section({"model_type": "llava", "text_config": {}}, 4, "x").decoder
        is (FAMILIES["llama"])
    )


def test_every_family_names_one_that_exists() -> None:
    for family in FAMILIES.values():
        assert not family.text or not FAMILIES[family.text].text
        assert not family.one_of or family.one_of in family.indices


def test_base_classes_are_those_that_automodel_opens() -> None:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    for name, family in FAMILIES.items():
        if family.base:
            assert MODEL_MAPPING_NAMES[name] == family.base


@pytest.mark.parametrize(
    "model_type", ["gemma3n", "gemma3n_text", "qwen2_5_omni", "minicpm3", "zamba2"]
)
def test_what_cannot_be_cut_is_refused_with_the_reason(model_type: str) -> None:
    with pytest.raises(CheckpointError, match=f"`{model_type}`, which cannot be cut") as caught:
        find_section({"model_type": model_type, "num_hidden_layers": 4}, 4, "some/model")
    assert FAMILIES[model_type].refused[1:] in caught.value.cause


def test_a_refused_text_model_is_refused_inside_another() -> None:
    inner = {"model_type": "gemma3n_text", "num_hidden_layers": 4}
    for model_type in ("llava", "nobody_knows"):
        with pytest.raises(CheckpointError, match="cannot be cut safely"):
            find_section({"model_type": model_type, "text_config": inner}, 4, "x")
    assert not FAMILIES["qwen2_5_omni_text"].refused


def test_a_model_inside_a_retriever_is_found() -> None:
    text = {"model_type": "qwen2_vl_text", "num_hidden_layers": 4}
    config = {"model_type": "colqwen2", "vlm_config": {"text_config": text}}
    section = find_section(config, 4, "x")
    assert section.path == ("vlm_config", "text_config")
    edited, changes = edited_config(config, section, (0, 1))
    assert edited["vlm_config"]["text_config"]["num_hidden_layers"] == 2
    assert changes[0].key == "vlm_config.text_config.num_hidden_layers"


def test_an_unknown_decoder_is_understood_by_its_fields() -> None:
    config = unknown(
        layer_types=["a", "b", "c", "d"], eos_token_id=[1, 2, 3, 4], first_k_dense_replace=3
    )
    section = find_section(config, 4, "x")
    edited, _ = edited_config(config, section, (0, 1))
    assert edited == {
        **config,
        "num_hidden_layers": 2,
        "layer_types": ["a", "b"],
        "first_k_dense_replace": 2,
    }
    with pytest.raises(CheckpointError, match="Only first layers"):
        edited_config(config, section, (0, 2))


def test_an_unknown_model_around_a_known_decoder_keeps_first_layers() -> None:
    for key in ("text_config", "llm_config", "language_config"):
        config = {"model_type": "x", key: {"model_type": "qwen2", "num_hidden_layers": 4}}
        section = find_section(config, 4, "x")
        assert section.path == (key,)
        assert edited_config(config, section, (0, 1))[0][key]["num_hidden_layers"] == 2
        with pytest.raises(CheckpointError, match="Only first layers"):
            edited_config(config, section, (0, 2))


@pytest.mark.parametrize(
    "fields",
    [
        {"widths": [1, 2, 3, 4]},
        {"memory_layers": [1, 2]},
        {"kv_source_layers": [0, 0, 2, 2]},
        {"layer_overrides": {"1": {}}},
        {"scale_depth": 1.4},
        {"is_encoder_decoder": True},
        {"block_configs": [{}, {}, {}, {}]},
    ],
)
def test_fields_that_may_belong_to_layers_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="does not know the architecture `nobody_knows`"):
        find_section(unknown(**fields), 4, "x")


def test_shared_keys_of_an_unknown_decoder_are_refused() -> None:
    config = unknown(num_kv_shared_layers=2)
    with pytest.raises(CheckpointError, match="cannot be cut safely"):
        edited_config(config, find_section(config, 4, "x"), (0, 1))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "names no architecture"),
        ({"model_type": 3}, "names no architecture"),
        ({"model_type": "llava"}, "has no text_config"),
        ({"model_type": "qwen2_vl", "text_config": []}, "has no text_config"),
        ({"model_type": "llava", "text_config": {"model_type": 1}}, "text_config.model_type"),
        ({"model_type": "llama", "num_hidden_layers": 6}, "holds 4 decoder layers.*says 6"),
        ({"model_type": "llama", "num_hidden_layers": "4"}, "states no num_hidden_layers"),
        ({"model_type": "llama", "num_hidden_layers": True}, "states no num_hidden_layers"),
        ({"model_type": "nobody_knows"}, "states no num_hidden_layers"),
    ],
)
def test_broken_configs_are_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        find_section(config, 4, "x")


def test_layers_that_predict_further_tokens_are_not_of_the_decoder() -> None:
    config = {"model_type": "llama", "num_hidden_layers": 3, "num_nextn_predict_layers": 1}
    section = find_section(config, 4, "x")
    assert section.depth == 3
    edited, _ = edited_config(config, section, range(3), further=True)
    assert edited == {**config, "num_nextn_predict_layers": 0}
    with pytest.raises(CheckpointError, match="holds 5"):
        find_section(config, 5, "x")
