"""Tiny random Qwen2-VL weights on disk, in the layouts that stock checkpoints come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLModel

DEPTH = 4


def tiny_config(**changes: Any) -> Qwen2VLConfig:
    """Return the config of a model 32 wide with four decoder layers and one vision block."""
    return Qwen2VLConfig(
        text_config={
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 512,
            "max_window_layers": DEPTH,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [4, 2, 2],
            },
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2},
        image_token_id=3,
        video_token_id=4,
        vision_start_token_id=1,
        vision_end_token_id=2,
        **changes,
    )


def write_base(folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    """Write a model of the base class: `language_model.*` and `visual.*`."""
    torch.manual_seed(0)
    model: Any = Qwen2VLModel(tiny_config(tie_word_embeddings=True))
    model = model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(folder, **options)
    return folder


def write_generation(folder: Path, *, tied: bool = False, **options: Any) -> Path:
    """Write a model of the generation class: `model.*`, `visual.*` and, untied, `lm_head`."""
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(tiny_config(tie_word_embeddings=tied))
    model.save_pretrained(folder, **options)
    return folder
