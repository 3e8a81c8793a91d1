"""Forms in which published checkpoints lie on disk and that transformers no longer writes."""

from __future__ import annotations

from typing import Any


def qwen2_vl_published(
    config: dict[str, Any], tensors: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put the text model's fields at the root of the config, as all of Qwen2-VL's are published."""
    flat = {key: value for key, value in config.items() if key not in ("text_config", "dtype")}
    text = dict(config["text_config"])
    rope = text.pop("rope_parameters")
    for key in ("model_type", "layer_types", "dtype", "pad_token_id", "sliding_window"):
        text.pop(key, None)
    flat |= text
    flat |= {
        "model_type": "qwen2_vl",
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        "sliding_window": 32768,
        "torch_dtype": config["dtype"],
    }
    flat["vision_config"] = {**config["vision_config"], "model_type": "qwen2_vl"}
    return flat, tensors


def qwen2_vl_in_memory(
    config: dict[str, Any], tensors: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name the tensors as the model in memory does, which some versions wrote to disk."""
    if not any(name.startswith("model.") for name in tensors):
        return config, tensors
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith("model."):
            renamed[name.replace("model.", "model.language_model.", 1)] = tensor
        else:
            renamed[f"model.{name}" if name.startswith("visual.") else name] = tensor
    return config, renamed


def inner_tower(
    config: dict[str, Any], tensors: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name the weights of a CLIP or SigLIP tower as when it was a model inside a model."""
    return config, {
        name.replace("vision_tower.", "vision_tower.vision_model.", 1): tensor
        for name, tensor in tensors.items()
    }
