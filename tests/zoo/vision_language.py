"""Tiny models that read images and text."""

from __future__ import annotations

from typing import Final

from tests.zoo import grid_models, tower_models
from tests.zoo.member import ZooModel
from tests.zoo.published import inner_tower, qwen2_vl_in_memory, qwen2_vl_published

# Written with the LM head's class, and with the base class.
_INNER: Final = ("language_model.model.layers.", "language_model.model.layers.")
_BARE: Final = ("language_model.layers.", "language_model.layers.")
_NESTED: Final = ("model.language_model.layers.", "language_model.layers.")
_QWEN2: Final = ("model.layers.", "language_model.layers.")
_IDEFICS: Final = ("model.text_model.layers.", "text_model.layers.")

VISION_LANGUAGE_MODELS: Final = {
    "qwen2_vl": ZooModel(
        "Qwen2VLForConditionalGeneration", grid_models.qwen2_vl, _QWEN2, form=qwen2_vl_published
    ),
    "qwen2_vl_base": ZooModel(
        "Qwen2VLForConditionalGeneration", grid_models.qwen2_vl, _BARE, tied=True, base_only=True
    ),
    "qwen2_vl_in_memory": ZooModel(
        "Qwen2VLForConditionalGeneration",
        grid_models.qwen2_vl,
        _NESTED,
        tied=True,
        form=qwen2_vl_in_memory,
    ),
    "qwen2_5_vl": ZooModel("Qwen2_5_VLForConditionalGeneration", grid_models.qwen2_5_vl, _QWEN2),
    "qwen3_vl": ZooModel(
        "Qwen3VLForConditionalGeneration", grid_models.qwen3_vl, _NESTED, tied=True
    ),
    "qwen3_vl_moe": ZooModel(
        "Qwen3VLMoeForConditionalGeneration", grid_models.qwen3_vl_moe, _NESTED
    ),
    "llava": ZooModel(
        "LlavaForConditionalGeneration", tower_models.llava, _INNER, form=inner_tower
    ),
    "llava_next": ZooModel(
        "LlavaNextForConditionalGeneration", tower_models.llava_next, _INNER, form=inner_tower
    ),
    "llava_onevision": ZooModel(
        "LlavaOnevisionForConditionalGeneration",
        tower_models.llava_onevision,
        _INNER,
        tied=True,
        form=inner_tower,
    ),
    "internvl": ZooModel("InternVLForConditionalGeneration", tower_models.internvl, _INNER),
    "gemma3": ZooModel(
        "Gemma3ForConditionalGeneration",
        tower_models.gemma3,
        _INNER,
        tied=True,
        form=inner_tower,
    ),
    "paligemma": ZooModel(
        "PaliGemmaForConditionalGeneration",
        tower_models.paligemma,
        _INNER,
        tied=True,
        form=inner_tower,
    ),
    "mistral3": ZooModel("Mistral3ForConditionalGeneration", tower_models.mistral3, _INNER),
    "mllama": ZooModel("MllamaForConditionalGeneration", tower_models.mllama, _INNER),
    "idefics3": ZooModel("Idefics3ForConditionalGeneration", tower_models.idefics3, _IDEFICS),
    "smolvlm": ZooModel("SmolVLMForConditionalGeneration", tower_models.idefics3, _IDEFICS),
    "glm4v": ZooModel("Glm4vForConditionalGeneration", grid_models.glm4v, _NESTED),
    "glm4v_moe": ZooModel("Glm4vMoeForConditionalGeneration", grid_models.glm4v_moe, _NESTED),
    "llama4": ZooModel(
        "Llama4ForConditionalGeneration",
        tower_models.llama4,
        _INNER,
    ),
    "aya_vision": ZooModel(
        "AyaVisionForConditionalGeneration",
        tower_models.aya_vision,
        _INNER,
        tied=True,
        form=inner_tower,
    ),
    "idefics2": ZooModel("Idefics2ForConditionalGeneration", tower_models.idefics2, _IDEFICS),
    "phi4_multimodal": ZooModel(
        "Phi4MultimodalForCausalLM", tower_models.phi4_multimodal, ("model.layers.", "layers.")
    ),
    "qwen2_5_omni_thinker": ZooModel(
        "Qwen2_5OmniThinkerForConditionalGeneration", grid_models.qwen2_5_omni, _QWEN2
    ),
    "qwen3_omni_moe_thinker": ZooModel(
        "Qwen3OmniMoeThinkerForConditionalGeneration", grid_models.qwen3_omni, _QWEN2
    ),
}
