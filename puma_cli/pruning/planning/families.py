"""What a cut must know of each architecture, as data: one `Family` per `model_type`.

Read from the configuration and modelling code of transformers. A model that reads images has two
families: its own, and that of the text model inside it, whose fields depend on the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Every:
    """What transformers makes of a list that a config lacks: each `period`-th layer differs.

    Args:
        usual: value of a layer `i` with `(i + 1) % period != 0`.
        last: value of the others; None in both makes a list of those layers' numbers instead.
        period: the period, or its default where `key` names a field that holds it.
    """

    usual: Any
    last: Any
    period: int
    key: str = ""


@dataclass(frozen=True)
class Family:
    """One architecture's facts.

    Args:
        base: class without an LM head that `AutoModel` opens; empty where it has none.
        text: `model_type` of the text model where the config leaves it out; empty where the
            architecture is itself a text model.
        flat: whether published configs hold the text model's fields at their root.
        lists: fields with a value per layer, and how a missing one is made up (None: it is not).
            `layer_types` and `mlp_layer_types` are such fields everywhere.
        indices: fields that list layers by number, and what a missing one is.
        leading: fields that count first layers, and their defaults.
        periodic: fields by which a layer's kind follows from its number, and the value that makes
            all layers alike; other values allow first layers only.
        entered: where vision features enter first layers: path of the list of features, and the
            list's default length.
        one_of: a field of `indices`, of whose layers one must stay.
        last_type: the `layer_types` value that the last layer is forced to.
        zero: fields that must be 0, each with its default and the reason.
        head_for: decoder prefixes that only the class with an LM head reads whole.
        first_only: only first layers can be kept, for this reason.
        refused: no cut is safe, for this reason.
    """

    base: str = ""
    text: str = ""
    flat: bool = False
    lists: Mapping[str, Every | None] = field(default_factory=dict)
    indices: Mapping[str, Every | tuple[int, ...]] = field(default_factory=dict)
    leading: Mapping[str, int] = field(default_factory=dict)
    periodic: Mapping[str, int] = field(default_factory=dict)
    entered: tuple[tuple[str, ...], int] = ((), 0)
    one_of: str = ""
    last_type: str = ""
    zero: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    head_for: tuple[str, ...] = ()
    first_only: str = ""
    refused: str = ""


SHARED_KEYS: Final = "its last layers take their keys and values from earlier ones"
WIDE_INPUTS: Final = "its token embeddings are as wide as the decoder is deep"
_FULL: Final = "full_attention"
_SLIDING: Final = "sliding_attention"
_LINEAR: Final = "linear_attention"
# Their layers slide from one number on; the count of those before moves with the layers.
_QWEN: Final = {"max_window_layers": 28}
_QWEN_VL: Final = {"max_window_layers": 80}
_SPARSE: Final[dict[str, Any]] = {
    "indices": {"mlp_only_layers": ()},
    "periodic": {"decoder_sparse_step": 1},
}
_DEEPSTACK: Final = (("vision_config", "deepstack_visual_indexes"), 3)
_IN_MEMORY: Final = ("model.language_model.layers.",)


def _types(usual: str, last: str, period: int, key: str = "") -> dict[str, Every | None]:
    return {"layer_types": Every(usual, last, period, key)}


_TEXT: Final[dict[str, Family]] = {
    "llama": Family("LlamaModel"),
    "mistral": Family("MistralModel"),
    "ministral3": Family("Ministral3Model"),
    "mixtral": Family("MixtralModel"),
    "gemma": Family("GemmaModel"),
    "gemma2": Family("Gemma2Model", lists=_types(_SLIDING, _FULL, 2)),
    "gemma3_text": Family(
        "Gemma3TextModel", lists=_types(_SLIDING, _FULL, 6, "sliding_window_pattern")
    ),
    "gemma4_text": Family(
        "Gemma4TextModel",
        lists=_types(_SLIDING, _FULL, 6),
        last_type=_FULL,
        zero={
            "num_kv_shared_layers": (0, SHARED_KEYS),
            "hidden_size_per_layer_input": (256, WIDE_INPUTS),
        },
    ),
    "qwen2": Family("Qwen2Model", leading=_QWEN),
    "qwen3": Family("Qwen3Model", leading=_QWEN),
    "qwen3_moe": Family("Qwen3MoeModel", **_SPARSE),
    "qwen2_vl_text": Family("Qwen2VLTextModel", leading=_QWEN_VL),
    "qwen2_5_vl_text": Family("Qwen2_5_VLTextModel", leading=_QWEN_VL),
    "qwen3_vl_text": Family("Qwen3VLTextModel"),
    "qwen3_vl_moe_text": Family("Qwen3VLMoeTextModel", **_SPARSE),
    "qwen3_5_text": Family(
        "Qwen3_5TextModel", lists=_types(_LINEAR, _FULL, 4, "full_attention_interval")
    ),
    "qwen2_5_omni_text": Family(leading=_QWEN),
    "qwen3_omni_moe_text": Family(**_SPARSE),
    "mllama_text_model": Family(
        indices={"cross_attention_layers": (3, 8, 13, 18, 23, 28, 33, 38)},
        one_of="cross_attention_layers",
    ),
    "llama4_text": Family(
        "Llama4TextModel",
        # Without layer_types these follow from no_rope_layers, which is then always written.
        lists={"no_rope_layers": Every(1, 0, 4, "no_rope_layer_interval")},
        indices={"moe_layers": Every(None, None, 1, "interleave_moe_layer_step")},
    ),
    "glm4": Family("Glm4Model"),
    "glm4v_text": Family("Glm4vTextModel"),
    "glm4v_moe_text": Family("Glm4vMoeTextModel", leading={"first_k_dense_replace": 1}),
    "phi3": Family("Phi3Model"),
    "phi4_multimodal": Family("Phi4MultimodalModel"),
    "cohere": Family("CohereModel"),
    "cohere2": Family("Cohere2Model", lists=_types(_SLIDING, _FULL, 4, "sliding_window_pattern")),
    "granite": Family("GraniteModel"),
    "olmo2": Family("Olmo2Model"),
    "olmo3": Family("Olmo3Model", lists=_types(_SLIDING, _FULL, 4)),
    "gpt_oss": Family("GptOssModel", lists=_types(_SLIDING, _FULL, 2)),
    "smollm3": Family(
        "SmolLM3Model",
        lists={"no_rope_layers": Every(1, 0, 4, "no_rope_layer_interval")},
    ),
}

_VISION_LANGUAGE: Final[dict[str, Family]] = {
    "qwen2_vl": Family("Qwen2VLModel", "qwen2_vl_text", flat=True, head_for=_IN_MEMORY),
    "qwen2_5_vl": Family("Qwen2_5_VLModel", "qwen2_5_vl_text", flat=True, head_for=_IN_MEMORY),
    "qwen3_vl": Family("Qwen3VLModel", "qwen3_vl_text", entered=_DEEPSTACK),
    "qwen3_vl_moe": Family("Qwen3VLMoeModel", "qwen3_vl_moe_text", entered=_DEEPSTACK),
    "qwen3_5": Family("Qwen3_5Model", "qwen3_5_text"),
    "qwen2_5_omni_thinker": Family(
        "Qwen2_5OmniThinkerModel", "qwen2_5_omni_text", head_for=_IN_MEMORY
    ),
    "qwen3_omni_moe_thinker": Family(
        "Qwen3OmniMoeThinkerModel", "qwen3_omni_moe_text", entered=_DEEPSTACK, head_for=_IN_MEMORY
    ),
    "llava": Family("LlavaModel", "llama"),
    "llava_next": Family("LlavaNextModel", "llama"),
    "llava_next_video": Family("LlavaNextVideoModel", "llama"),
    "llava_onevision": Family("LlavaOnevisionModel", "qwen2"),
    "vipllava": Family("VipLlavaModel", "llama"),
    "internvl": Family("InternVLModel", "qwen2"),
    "gemma3": Family("Gemma3Model", "gemma3_text"),
    "gemma4": Family("Gemma4Model", "gemma4_text"),
    "paligemma": Family("PaliGemmaModel", "gemma"),
    "mistral3": Family("Mistral3Model", "mistral"),
    "mllama": Family("MllamaModel", "mllama_text_model"),
    "idefics2": Family("Idefics2Model", "mistral"),
    "idefics3": Family("Idefics3Model", "llama"),
    "smolvlm": Family("SmolVLMModel", "llama"),
    "glm4v": Family("Glm4vModel", "glm4v_text"),
    "glm4v_moe": Family("Glm4vMoeModel", "glm4v_moe_text"),
    "aya_vision": Family("AyaVisionModel", "cohere2"),
    "cohere2_vision": Family("Cohere2VisionModel", "cohere2"),
    "llama4": Family("", "llama4_text"),
}

_REFUSALS: Final[Mapping[str, tuple[str, ...]]] = {
    f"{SHARED_KEYS}, and {WIDE_INPUTS}": ("gemma3n",),
    SHARED_KEYS: ("mistral_large4",),
    WIDE_INPUTS: ("embedding_gemma2",),
    "its layers share one attention block": ("zamba", "zamba2"),
    "its images enter through a second stack beside the layers": ("idefics",),
    "what a layer computes depends on how many there are": (
        "minicpm",
        "minicpm3",
        "minimax",
        "neomme",
    ),
    "its last layer must attend to everything, wherever the cut is": (
        "beam",
        "diffusion_gemma",
        "flint",
        "gemma4_unified",
        "muse_glimmer",
        "muse_spark",
    ),
    "it speaks with a talker that reads its thinker's last layer; save the thinker alone": (
        "qwen2_5_omni",
        "qwen3_omni_moe",
    ),
}
# The text model inside a refused one can be cut no better, wherever else it stands; the omni
# models' can.
_REFUSED: Final[dict[str, Family]] = {
    name + end: Family(refused=reason)
    for reason, names in _REFUSALS.items()
    for name in names
    for end in ("", "_text")
    if name + end not in _TEXT
}

FAMILIES: Final[Mapping[str, Family]] = {**_TEXT, **_VISION_LANGUAGE, **_REFUSED}
