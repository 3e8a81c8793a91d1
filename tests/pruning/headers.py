"""Checkpoints that are headers and a config alone: sparse files of any size."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "F8_E4M3": 1, "U8": 1}
Shapes = Mapping[str, tuple[int, ...]]


def write_sparse(path: Path, shapes: Shapes, dtype: str = "BF16", **others: str) -> None:
    """Write a safetensors file of zeros that takes no room on the disk.

    Args:
        shapes: shape of each tensor by its name.
        dtype: their dtype, as safetensors spells it; `others` gives that of single tensors.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes.items():
        kind = others.get(name, dtype)
        end = start + math.prod(shape) * _BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + start)


def sparse_checkpoint(
    folder: Path, config: dict[str, Any], shapes: Shapes, dtype: str = "BF16", **others: str
) -> Path:
    """Write a checkpoint of one sparse file and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_sparse(folder / "model.safetensors", shapes, dtype, **others)
    return folder


def plain_decoder(
    layers: int, prefix: str = "model.", width: int = 8
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a small decoder of `layers` square layers and its embeddings."""
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}embed_tokens.weight": (16, width)}
    for layer in range(layers):
        shapes[f"{prefix}layers.{layer}.mlp.weight"] = (width, width)
    shapes[f"{prefix}norm.weight"] = (width,)
    return shapes


def qwen2_vl_7b(folder: Path) -> Path:
    """Write Qwen2-VL-7B as it is published, without its numbers."""
    width, inner, keys, vision, vocabulary = 3584, 18944, 512, 1280, 152064
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for layer in range(28):
        stem = f"model.layers.{layer}."
        shapes |= {
            f"{stem}input_layernorm.weight": (width,),
            f"{stem}mlp.down_proj.weight": (width, inner),
            f"{stem}mlp.gate_proj.weight": (inner, width),
            f"{stem}mlp.up_proj.weight": (inner, width),
            f"{stem}post_attention_layernorm.weight": (width,),
            f"{stem}self_attn.k_proj.bias": (keys,),
            f"{stem}self_attn.k_proj.weight": (keys, width),
            f"{stem}self_attn.o_proj.weight": (width, width),
            f"{stem}self_attn.q_proj.bias": (width,),
            f"{stem}self_attn.q_proj.weight": (width, width),
            f"{stem}self_attn.v_proj.bias": (keys,),
            f"{stem}self_attn.v_proj.weight": (keys, width),
        }
    shapes |= {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}
    shapes["visual.patch_embed.proj.weight"] = (vision, 3, 2, 14, 14)
    for block in range(32):
        stem = f"visual.blocks.{block}."
        for name in ("norm1", "norm2"):
            shapes |= {f"{stem}{name}.weight": (vision,), f"{stem}{name}.bias": (vision,)}
        for name, rows, columns in (
            ("attn.qkv", 3 * vision, vision),
            ("attn.proj", vision, vision),
            ("mlp.fc1", 4 * vision, vision),
            ("mlp.fc2", vision, 4 * vision),
        ):
            shapes |= {f"{stem}{name}.weight": (rows, columns), f"{stem}{name}.bias": (rows,)}
    merged = 4 * vision
    shapes |= {
        "visual.merger.ln_q.weight": (vision,),
        "visual.merger.ln_q.bias": (vision,),
        "visual.merger.mlp.0.weight": (merged, merged),
        "visual.merger.mlp.0.bias": (merged,),
        "visual.merger.mlp.2.weight": (width, merged),
        "visual.merger.mlp.2.bias": (width,),
    }
    config = {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "hidden_size": width,
        "max_window_layers": 28,
        "model_type": "qwen2_vl",
        "num_hidden_layers": 28,
        "sliding_window": 32768,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "vision_config": {"depth": 32, "embed_dim": vision, "model_type": "qwen2_vl"},
    }
    return sparse_checkpoint(folder, config, shapes)
