"""Tiny random models in the layouts of published embedders, file by file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers.processors import TemplateProcessing
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLModel,
    Qwen2Config,
    Qwen2Model,
    Qwen2VLConfig,
    Qwen2VLModel,
    Qwen3Config,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLModel,
)

from puma_cli.models.fresh import train_tokenizer

LAYERS = 6
WIDTH = 32
TEXTS = ["small red circle left of large blue square on sand", "find the picture", "on white"]
CHAT = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}"
    "{%- for part in message.content %}{%- if part.type == 'image' %}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else %}{{- part.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 336,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
_TYPE = "sentence_transformers.models."


def build_tokenizer(ends: bool) -> PreTrainedTokenizerFast:
    """Return a tokenizer with the tokens of a chat, which may add an end to what it is given."""
    tokenizer: PreTrainedTokenizerFast = train_tokenizer(TEXTS * 20, 320)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    if ends:
        end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
        )
    return tokenizer


def text_model(kind: str) -> Any:
    """Return a tiny `qwen2` or `qwen3`."""
    if kind == "qwen2":
        return _spread(Qwen2Model(Qwen2Config(**TEXT, max_window_layers=LAYERS)))
    return _spread(Qwen3Model(Qwen3Config(**TEXT, head_dim=16, max_window_layers=LAYERS)))


def vision_model(kind: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Return a tiny `qwen2_vl`, `qwen2_5_vl` or `qwen3_vl`."""
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    keys = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids: dict[str, Any] = {
        key: tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        for key, name in zip(keys, names, strict=True)
    }
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "mrope_section": [4, 2, 2],
    }
    text = {**TEXT, "rope_parameters": rope}
    if kind == "qwen2_vl":
        tower = {
            "depth": 1, "embed_dim": 32, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 4,
            "patch_size": 14,
        }  # fmt: skip
        config = Qwen2VLConfig(text_config=text, vision_config=tower, **ids)
        return _spread(Qwen2VLModel(config))
    if kind == "qwen2_5_vl":
        # One block looks through windows, the other at the whole image.
        windows = {
            "depth": 2, "hidden_size": 32, "out_hidden_size": WIDTH, "intermediate_size": 48,
            "num_heads": 2, "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1],
        }  # fmt: skip
        return _spread(
            Qwen2_5_VLModel(Qwen2_5_VLConfig(text_config=text, vision_config=windows, **ids))
        )
    deep: dict[str, Any] = {
        "depth": 3, "hidden_size": 32, "out_hidden_size": WIDTH, "intermediate_size": 48,
        "num_heads": 2, "patch_size": 16, "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    rope["mrope_interleaved"] = True
    text |= {"head_dim": 16}
    whole = Qwen3VLConfig(text_config=text, vision_config=deep, tie_word_embeddings=True, **ids)
    return _spread(Qwen3VLModel(whole))


def _spread(model: Any) -> Any:
    """Enlarge the initial weights, so that every layer changes the result visibly."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.15, generator=generator)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write(path: Path, content: object) -> None:
    """Write JSON; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def save_image_processor(folder: Path, patch: int, low: int = 4 * 28**2, high: int = 9216) -> None:
    """Write the image processor of Qwen's models."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    size = {"shortest_edge": low, "longest_edge": high}
    Qwen2VLImageProcessorPil(size=size, patch_size=patch, merge_size=2).save_pretrained(folder)


def sentence_transformer(
    folder: Path,
    kind: str = "qwen3",
    *,
    pooling: Mapping[str, Any] | str = "lasttoken",
    prompts: Mapping[str, str] | None = None,
    ends: bool = True,
    dense: int | None = None,
    normalize: bool = True,
    transformer: Mapping[str, Any] | None = None,
) -> Path:
    """Write a folder of sentence-transformers around a tiny text model."""
    folder.mkdir(parents=True)
    text_model(kind).save_pretrained(folder)
    build_tokenizer(ends).save_pretrained(folder)
    modes = {"pooling_mode": pooling} if isinstance(pooling, str) else dict(pooling)
    add_modules(folder, modes, prompts=prompts, dense=dense, normalize=normalize)
    if transformer is not None:
        write(folder / "sentence_bert_config.json", transformer)
    return folder


def add_modules(
    folder: Path,
    pooling: Mapping[str, Any],
    *,
    prompts: Mapping[str, str] | None = None,
    dense: int | None = None,
    normalize: bool = True,
) -> None:
    """Write `modules.json` and what it names."""
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": WIDTH, **pooling, "include_prompt": True},
    )
    if dense is not None:
        modules.append(("Dense", "2_Dense"))
        activation = "torch.nn.modules.linear.Identity"
        write(
            folder / "2_Dense" / "config.json",
            {
                "in_features": WIDTH, "out_features": dense, "bias": True,
                "activation_function": activation,
            },
        )  # fmt: skip
        generator = torch.Generator().manual_seed(5)
        weights = {
            "linear.weight": torch.randn(dense, WIDTH, generator=generator),
            "linear.bias": torch.randn(dense, generator=generator),
        }
        save_file(weights, folder / "2_Dense" / "model.safetensors")
    if normalize:
        name = f"{len(modules)}_Normalize"
        modules.append(("Normalize", name))
        (folder / name).mkdir()
    write(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": _TYPE + name}
            for number, (name, path) in enumerate(modules)
        ],
    )
    write(
        folder / "config_sentence_transformers.json",
        {
            "prompts": dict(prompts or {}), "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )  # fmt: skip


def qwen3_vl_embedding(folder: Path, ends: bool = True) -> Path:
    """Write a Qwen3-VL-Embedding: a chat model but for its script, card and tokenizer."""
    folder.mkdir(parents=True)
    tokenizer = build_tokenizer(ends)
    vision_model("qwen3_vl", tokenizer).save_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    save_image_processor(folder, 16, 4 * 32**2, 16 * 32**2)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Qwen3-VL-Embedding-2B\n")
    return folder


def gme(folder: Path) -> Path:
    """Write a GME-Qwen2-VL: a Qwen2-VL whose config and modules name code of its own."""
    folder.mkdir(parents=True)
    tokenizer = build_tokenizer(ends=False)
    vision_model("qwen2_vl", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_image_processor(folder, 14)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "architectures": ["GmeQwen2VLForVision"],
        "auto_map": {"AutoModel": "modeling_gme_qwen2vl.GmeQwen2VL"},
        "min_image_tokens": 4, "max_image_tokens": 12, "max_length": 300,
    }  # fmt: skip
    write(folder / "config.json", config)
    write(folder / "modules.json", [{"path": "", "type": "custom_st.MultiModalTransformer"}])
    return folder
