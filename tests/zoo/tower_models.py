"""Configs of models that read an image tower's features as a row of tokens, such as LLaVA."""

from __future__ import annotations

from typing import Any

from tests.zoo.text import WIDTH, alternating, decoder, windowed
from tests.zoo.token_ids import AUDIO, END, IMAGE, START, VIDEO


def _tower(**changes: Any) -> dict[str, Any]:
    """Return the fields of a ViT with patches of 4 x 4 pixels."""
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 4,
        "image_size": 16,
        **changes,
    }


def _clip() -> dict[str, Any]:
    return _tower(model_type="clip_vision_model", projection_dim=16, num_hidden_layers=3)


def _siglip(**changes: Any) -> dict[str, Any]:
    return _tower(model_type="siglip_vision_model", vision_use_head=False, **changes)


def llava(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, model_type="llama"),
        "vision_config": _clip(),
        "image_token_index": IMAGE,
        "image_seq_length": 16,
        "vision_feature_layer": -2,
    }


def llava_next(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, model_type="mistral", sliding_window=None, head_dim=8),
        "vision_config": _clip(),
        "image_token_index": IMAGE,
        "image_seq_length": 16,
        "vision_feature_layer": -2,
        "image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]],
    }


def llava_onevision(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, model_type="qwen2", **windowed(layers)),
        "vision_config": _siglip(),
        "image_token_index": IMAGE,
        "video_token_index": VIDEO,
        "image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]],
    }


def internvl(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, model_type="qwen2", max_window_layers=layers),
        "vision_config": _tower(image_size=[16, 16], patch_size=[4, 4]),
        "image_token_id": IMAGE,
        "image_seq_length": 4,
    }


def gemma3(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(
            layers,
            head_dim=8,
            sliding_window=4,
            query_pre_attn_scalar=8,
            layer_types=alternating(layers, 3),
        ),
        "vision_config": _siglip(),
        "mm_tokens_per_image": 4,
        "image_token_index": IMAGE,
        "boi_token_index": START,
        "eoi_token_index": END,
    }


def paligemma(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, model_type="gemma", head_dim=8),
        "vision_config": _siglip(),
        "image_token_index": IMAGE,
        "projection_dim": WIDTH,
        "hidden_size": WIDTH,
    }


def mistral3(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, model_type="mistral", head_dim=8, sliding_window=None),
        "vision_config": _tower(model_type="pixtral"),
        "image_token_index": IMAGE,
    }


def mllama(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, cross_attention_layers=[1, 4]),
        "vision_config": _tower(
            num_global_layers=1,
            attention_heads=2,
            vision_output_dim=2 * WIDTH,
            max_num_tiles=4,
            intermediate_layers_indices=[0],
        ),
        "image_token_index": IMAGE,
    }


def idefics3(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, model_type="llama"),
        "vision_config": _tower(),
        "image_token_id": IMAGE,
        "scale_factor": 2,
    }


def llama4(layers: int) -> dict[str, Any]:
    mixture = {"num_local_experts": 4, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 48}
    return {
        "text_config": decoder(
            layers, head_dim=8, attention_chunk_size=8, attn_temperature_tuning=False, **mixture
        ),
        "vision_config": _tower(
            intermediate_size=4 * WIDTH,
            vision_output_dim=WIDTH,
            projector_input_dim=WIDTH,
            projector_output_dim=WIDTH,
        ),
        "image_token_index": IMAGE,
        "boi_token_index": START,
        "eoi_token_index": END,
    }


def aya_vision(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(
            layers,
            model_type="cohere2",
            sliding_window=4,
            layer_types=alternating(layers, 3),
        ),
        "vision_config": _siglip(),
        "image_token_index": IMAGE,
        "adapter_layer_norm_eps": 1e-6,
    }


def idefics2(layers: int) -> dict[str, Any]:
    return {
        "text_config": decoder(layers, model_type="mistral", sliding_window=None, head_dim=8),
        "vision_config": _tower(),
        "perceiver_config": {
            "hidden_size": WIDTH,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 1,
        },
        "image_token_id": IMAGE,
    }


def phi4_multimodal(layers: int) -> dict[str, Any]:
    audio = {
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_blocks": 1,
        "num_attention_heads": 2,
        "ext_pw_out_channel": WIDTH,
        "depthwise_separable_out_channel": WIDTH,
        "nemo_conv_channels": WIDTH,
        "input_size": 16,
        "audio_token_id": AUDIO,
    }
    return {
        **decoder(layers),
        "vision_config": _tower(crop_size=16, image_token_id=IMAGE),
        "audio_config": audio,
    }
