"""Four published models: their raw configs, and the names and shapes of their tensors on disk."""

from __future__ import annotations

from shapes import Shape, affine, decoder_layer, in_files, tower_layers
from stand_in import StandIn


def qwen2_vl_7b() -> StandIn:
    """Return Qwen2-VL-7B-Instruct as published: five files, bfloat16, an LM head of its own."""
    return _qwen2_vl(3584, 18944, heads=28, key_heads=4, vocabulary=152064, tied=False, files=5)


def qwen2_vl_2b() -> StandIn:
    """Return Qwen2-VL-2B-Instruct as published: two files, bfloat16, the LM head tied."""
    return _qwen2_vl(1536, 8960, heads=12, key_heads=2, vocabulary=151936, tied=True, files=2)


def _qwen2_vl(
    hidden: int,
    inner: int,
    *,
    heads: int,
    key_heads: int,
    vocabulary: int,
    tied: bool,
    files: int,
) -> StandIn:
    config = {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": 28,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_window_layers": 28,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "vocab_size": vocabulary,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "vision_token_id": 151654,
        "vision_config": {
            "depth": 32,
            "embed_dim": 1280,
            "mlp_ratio": 4,
            "num_heads": 16,
            "in_chans": 3,
            "hidden_size": hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "model_type": "qwen2_vl",
        },
    }
    tensors: dict[str, Shape] = {"visual.patch_embed.proj.weight": (1280, 3, 2, 14, 14)}
    for block in range(32):
        stem = f"visual.blocks.{block}."
        tensors |= affine(f"{stem}norm1", 1280) | affine(f"{stem}norm2", 1280)
        tensors |= affine(f"{stem}attn.qkv", 3840, 1280) | affine(f"{stem}attn.proj", 1280, 1280)
        tensors |= affine(f"{stem}mlp.fc1", 5120, 1280) | affine(f"{stem}mlp.fc2", 1280, 5120)
    tensors |= affine("visual.merger.ln_q", 1280) | affine("visual.merger.mlp.0", 5120, 5120)
    tensors |= affine("visual.merger.mlp.2", hidden, 5120)
    tensors["model.embed_tokens.weight"] = (vocabulary, hidden)
    for layer in range(28):
        tensors |= decoder_layer(
            f"model.layers.{layer}.", hidden, inner, key_heads, width=128, bias=True
        )
    tensors["model.norm.weight"] = (hidden,)
    if not tied:
        tensors["lm_head.weight"] = (vocabulary, hidden)
    return StandIn(config, in_files(tensors, files), "BF16", sparse=True)


def llava_7b() -> StandIn:
    """Return llava-1.5-7b-hf as published: three files, float16, CLIP ViT-L/14 and a Llama."""
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "ignore_index": -100,
        "image_token_index": 32000,
        "pad_token_id": 32001,
        "projector_hidden_act": "gelu",
        "text_config": {
            "_name_or_path": "lmsys/vicuna-7b-v1.5",
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096,
            "model_type": "llama",
            "rms_norm_eps": 1e-05,
            "torch_dtype": "float16",
            "vocab_size": 32064,
        },
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vision_config": {
            "hidden_size": 1024,
            "image_size": 336,
            "intermediate_size": 4096,
            "model_type": "clip_vision_model",
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
            "projection_dim": 768,
            "vocab_size": 32000,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }
    tower = "vision_tower.vision_model."
    tensors: dict[str, Shape] = {
        f"{tower}embeddings.class_embedding": (1024,),
        f"{tower}embeddings.patch_embedding.weight": (1024, 3, 14, 14),
        f"{tower}embeddings.position_embedding.weight": (577, 1024),
        **affine(f"{tower}pre_layrnorm", 1024),
        **tower_layers(f"{tower}encoder.layers.", 24, 1024, 4096),
        **affine(f"{tower}post_layernorm", 1024),
        **affine("multi_modal_projector.linear_1", 4096, 1024),
        **affine("multi_modal_projector.linear_2", 4096, 4096),
        "language_model.model.embed_tokens.weight": (32064, 4096),
    }
    for layer in range(32):
        stem = f"language_model.model.layers.{layer}."
        tensors |= decoder_layer(stem, 4096, 11008, 32, width=128)
    tensors["language_model.model.norm.weight"] = (4096,)
    tensors["language_model.lm_head.weight"] = (32064, 4096)
    return StandIn(config, in_files(tensors, 3), "F16", sparse=True)


def gemma3_4b() -> StandIn:
    """Return gemma-3-4b-it as published: two files, bfloat16, SigLIP and tied embeddings."""
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 255999,
        "eoi_token_index": 256000,
        "eos_token_id": [1, 106],
        "image_token_index": 262144,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 256,
        "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "model_type": "gemma3_text",
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
        "torch_dtype": "bfloat16",
        "vision_config": {
            "hidden_size": 1152,
            "image_size": 896,
            "intermediate_size": 4304,
            "model_type": "siglip_vision_model",
            "num_attention_heads": 16,
            "num_hidden_layers": 27,
            "patch_size": 14,
            "vision_use_head": False,
        },
    }
    tower = "vision_tower.vision_model."
    tensors: dict[str, Shape] = {
        "language_model.model.embed_tokens.weight": (262208, 2560),
    }
    for layer in range(34):
        stem = f"language_model.model.layers.{layer}."
        tensors |= decoder_layer(stem, 2560, 10240, 4, width=256, attention=2048)
        tensors[f"{stem}pre_feedforward_layernorm.weight"] = (2560,)
        tensors[f"{stem}post_feedforward_layernorm.weight"] = (2560,)
        tensors[f"{stem}self_attn.q_norm.weight"] = (256,)
        tensors[f"{stem}self_attn.k_norm.weight"] = (256,)
    tensors["language_model.model.norm.weight"] = (2560,)
    tensors |= {
        "multi_modal_projector.mm_input_projection_weight": (1152, 2560),
        "multi_modal_projector.mm_soft_emb_norm.weight": (1152,),
        f"{tower}embeddings.patch_embedding.weight": (1152, 3, 14, 14),
        f"{tower}embeddings.patch_embedding.bias": (1152,),
        f"{tower}embeddings.position_embedding.weight": (4096, 1152),
        **tower_layers(f"{tower}encoder.layers.", 27, 1152, 4304),
        **affine(f"{tower}post_layernorm", 1152),
    }
    return StandIn(config, in_files(tensors, 2), "BF16", sparse=True)
