"""Configs of models that place image tokens on a grid: Qwen-VL, GLM-V and the omni thinkers."""

from __future__ import annotations

from typing import Any, Final

from tests.zoo.text import WIDTH, decoder, experts, windowed
from tests.zoo.token_ids import AUDIO, END, IMAGE, START, VIDEO

_QWEN_IDS: Final = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
_GLM_IDS: Final = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "image_start_token_id": START,
    "image_end_token_id": END,
    "video_start_token_id": 7,
    "video_end_token_id": 8,
}


def _mrope(section: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": section, **more}


def _qwen_tower(**changes: Any) -> dict[str, Any]:
    return {"depth": 2, "hidden_size": WIDTH, "num_heads": 2, "patch_size": 4, **changes}


def _qwen3_tower() -> dict[str, Any]:
    return _qwen_tower(
        depth=4,
        intermediate_size=48,
        out_hidden_size=WIDTH,
        num_position_embeddings=16,
        deepstack_visual_indexes=[1, 2],
    )


def qwen2_vl(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, rope_parameters=_mrope([2, 1, 1]), max_window_layers=layers),
        "vision_config": _qwen_tower(embed_dim=WIDTH, mlp_ratio=2),
        **_QWEN_IDS,
    }


def qwen2_5_vl(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, rope_parameters=_mrope([2, 1, 1]), **windowed(layers)),
        "vision_config": _qwen_tower(
            intermediate_size=48,
            out_hidden_size=WIDTH,
            window_size=16,
            fullatt_block_indexes=[1],
        ),
        **_QWEN_IDS,
    }


def qwen3_vl(layers: int) -> dict[str, Any]:
    rope = _mrope([2, 1, 1], mrope_interleaved=True)
    return {
        "text_config": decoder(layers, head_dim=8, rope_parameters=rope),
        "vision_config": _qwen3_tower(),
        **_QWEN_IDS,
    }


def qwen3_vl_moe(layers: int) -> dict[str, Any]:
    config = qwen3_vl(layers)
    config["text_config"] |= {**experts(), "mlp_only_layers": [2, 5]}
    return config


def _glm4v_tower() -> dict[str, Any]:
    return _qwen_tower(intermediate_size=48, out_hidden_size=WIDTH, image_size=16)


def glm4v(layers: int) -> dict[str, Any]:
    rope = _mrope([1, 1, 0], partial_rotary_factor=0.5)
    return {
        "text_config": decoder(layers, rope_parameters=rope),
        "vision_config": _glm4v_tower(),
        **_GLM_IDS,
    }


def glm4v_moe(layers: int) -> dict[str, Any]:
    rope = _mrope([1, 1, 0], partial_rotary_factor=0.5)
    mixture = {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    }
    return {
        "text_config": decoder(layers, rope_parameters=rope, **mixture),
        "vision_config": _glm4v_tower(),
        **_GLM_IDS,
    }


def _audio() -> dict[str, Any]:
    return {
        "num_mel_bins": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "d_model": WIDTH,
        "output_dim": WIDTH,
        "n_window": 8,
        "max_source_positions": 32,
    }


def qwen2_5_omni(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, rope_parameters=_mrope([2, 1, 1]), max_window_layers=layers),
        "vision_config": _qwen_tower(
            intermediate_size=48,
            out_hidden_size=WIDTH,
            window_size=16,
            fullatt_block_indexes=[1],
        ),
        "audio_config": _audio(),
        "image_token_index": IMAGE,
        "video_token_index": VIDEO,
        "audio_token_index": AUDIO,
        "vision_start_token_id": START,
        "vision_end_token_id": END,
    }


def qwen3_omni(layers: int) -> dict[str, Any]:
    rope = _mrope([2, 1, 1], mrope_interleaved=True)
    return {
        "text_config": decoder(layers, head_dim=8, rope_parameters=rope, **experts()),
        "vision_config": _qwen3_tower(),
        "audio_config": {**_audio(), "downsample_hidden_size": 16},
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "audio_token_id": AUDIO,
        "vision_start_token_id": START,
        "vision_end_token_id": END,
    }
