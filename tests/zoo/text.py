"""Tiny text-only models."""

from __future__ import annotations

from typing import Any, Final

from tests.zoo.member import ZooModel

VOCABULARY: Final = 384
WIDTH: Final = 32


def decoder(layers: int, **changes: Any) -> dict[str, Any]:
    """Return the fields that most decoders share, for one of `layers` layers."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **changes,
    }


def alternating(layers: int, period: int) -> list[str]:
    """Return layer types of which each `period`-th attends to everything."""
    return [
        "full_attention" if (layer + 1) % period == 0 else "sliding_attention"
        for layer in range(layers)
    ]


def windowed(layers: int) -> dict[str, Any]:
    """Return the fields of a decoder whose layers slide from its middle on."""
    first = layers // 2
    return {
        "use_sliding_window": True,
        "sliding_window": 4,
        "max_window_layers": first,
        "layer_types": ["full_attention"] * first + ["sliding_attention"] * (layers - first),
    }


def experts(count: int = 4) -> dict[str, Any]:
    """Return the fields of a mixture of `count` experts, of which two work on a token."""
    return {"num_experts": count, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


_PLAIN: Final = ("model.layers.", "layers.")

TEXT_MODELS: Final = {
    "llama": ZooModel("LlamaForCausalLM", decoder, _PLAIN),
    "mistral": ZooModel(
        "MistralForCausalLM", lambda n: decoder(n, sliding_window=4, head_dim=8), _PLAIN
    ),
    "qwen2": ZooModel("Qwen2ForCausalLM", lambda n: decoder(n, **windowed(n)), _PLAIN),
    "qwen3": ZooModel("Qwen3ForCausalLM", lambda n: decoder(n, head_dim=16), _PLAIN, tied=True),
    "qwen3_moe": ZooModel(
        "Qwen3MoeForCausalLM",
        lambda n: decoder(n, head_dim=8, mlp_only_layers=[1, 4], **experts()),
        _PLAIN,
    ),
    "mixtral": ZooModel("MixtralForCausalLM", lambda n: decoder(n, num_local_experts=4), _PLAIN),
    "gemma2": ZooModel(
        "Gemma2ForCausalLM",
        lambda n: decoder(n, head_dim=8, sliding_window=4, query_pre_attn_scalar=8),
        _PLAIN,
        tied=True,
    ),
    "gemma3_text": ZooModel(
        "Gemma3ForCausalLM",
        lambda n: decoder(
            n,
            head_dim=8,
            sliding_window=4,
            query_pre_attn_scalar=8,
            layer_types=alternating(n, 3),
        ),
        _PLAIN,
        tied=True,
    ),
}
