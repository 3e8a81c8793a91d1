"""The table of families against transformers' own configurations, which it must not contradict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import AutoConfig

from puma_cli.pruning.planning.config_edit import edited_config
from puma_cli.pruning.planning.decoder_section import find_section
from puma_cli.pruning.planning.families import FAMILIES

DEPTH = 24
KEPT = [list(range(12)), list(range(6)), [0, 1, 2, 3, 7, 11, 12, 23], [0, 1, 2, 3, 23]]
CUT = sorted(name for name, family in FAMILIES.items() if not family.refused)
# Families of text models that stand inside another model only.
INSIDE = {"qwen2_5_omni_text", "qwen3_omni_moe_text"}
# Per-layer values that a configuration makes up itself and that need no field: from other lists.
FIELDS = (
    "layer_types",
    "mlp_layer_types",
    "no_rope_layers",
    "cross_attention_layers",
    "moe_layers",
    "mlp_only_layers",
)


def raw_config(name: str, **fields: Any) -> dict[str, Any]:
    """Return the shortest config of an architecture: its depth and what makes layers differ."""
    text = {"num_hidden_layers": DEPTH, "use_sliding_window": True, "max_window_layers": 10}
    if name in ("gemma4", "gemma4_text"):
        text["hidden_size_per_layer_input"] = 0
    text |= fields
    if FAMILIES[name].text:
        return {"model_type": name, "text_config": text}
    return {"model_type": name, **text}


def kinds_of_layers(config: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what transformers makes of each decoder layer that `config` describes."""
    whole = AutoConfig.for_model(**config)
    text: Any = whole.get_text_config()
    kinds: list[tuple[Any, ...]] = []
    for layer in range(text.num_hidden_layers):
        kind: list[Any] = []
        for name in FIELDS:
            values = getattr(text, name, None) or []
            if name.endswith("_types") or name == "no_rope_layers":
                kind.append(values[layer] if values else None)
            else:
                kind.append(layer in values)
        step = getattr(text, "decoder_sparse_step", 1)
        dense = getattr(text, "first_k_dense_replace", 0)
        kinds.append((*kind, (layer + 1) % step == 0, layer < dense))
    return kinds


def cut(config: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    return edited_config(config, find_section(config, DEPTH, "x"), kept)[0]


@pytest.mark.parametrize("name", sorted(set(CUT) - INSIDE))
def test_every_kept_layer_stays_of_its_kind(name: str) -> None:
    periods = ("sliding_window_pattern", "full_attention_interval", "no_rope_layer_interval")
    decoder = FAMILIES[FAMILIES[name].text or name]
    for fields in (
        {},
        {"sliding_window": 64, "first_k_dense_replace": 3},
        {**dict.fromkeys(periods, 3), "interleave_moe_layer_step": 2},
        {"mlp_only_layers": [1, 7, 23]} if "mlp_only_layers" in decoder.indices else {},
    ):
        config = raw_config(name, **fields)
        parent = kinds_of_layers(config)
        assert len(parent) == DEPTH
        for kept in KEPT:
            assert kinds_of_layers(cut(config, kept)) == [parent[layer] for layer in kept]


def test_the_comparison_sees_what_layers_differ_in() -> None:
    differing = {
        name for name in set(CUT) - INSIDE if len(set(kinds_of_layers(raw_config(name)))) > 1
    }
    assert differing >= {
        "gemma2",
        "gemma3",
        "gemma4",
        "qwen2",
        "qwen2_vl",
        "llava_onevision",
        "mllama",
        "llama4",
        "glm4v_moe",
        "aya_vision",
        "qwen3_5",
        "qwen2_5_omni_thinker",
    }


def test_a_nested_text_model_follows_its_own_rules() -> None:
    for inner in ("qwen2", "gemma2", "cohere2", "smollm3", "qwen3_moe"):
        config = raw_config("llava", model_type=inner)
        parent = kinds_of_layers(config)
        for kept in KEPT:
            assert kinds_of_layers(cut(config, kept)) == [parent[layer] for layer in kept]
