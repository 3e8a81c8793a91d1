"""A new model with random weights: stock Qwen2-VL architecture, own byte-level BPE tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from puma_cli.config.training_settings import FreshSettings
from puma_cli.errors import ConfigError
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import PLAIN_TEMPLATE, EmbedderSettings

PAD, EMBED = "<|endoftext|>", "<|embed|>"
SPECIAL_TOKENS = (
    PAD,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    EMBED,
)


def build_fresh(settings: FreshSettings, texts: Iterable[str], seed: int = 0) -> Embedder:
    """Return a newly initialised embedder whose tokenizer is trained on `texts`.

    Raises:
        ConfigError: the sizes do not fit one another.
    """
    _check(settings)
    tokenizer = train_tokenizer(texts, settings.vocabulary)
    return Embedder(
        _network(settings, tokenizer, seed),
        tokenizer,
        _image_processor(settings),
        EmbedderSettings(
            template=PLAIN_TEMPLATE.replace("EMBED_TOKEN", EMBED),
            embed_token=EMBED,
            dimension=settings.hidden_size,
            min_pixels=(settings.patch_size * settings.merge_size) ** 2,
            max_pixels=settings.image_size**2,
        ),
    )


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Train a byte-level BPE tokenizer of at most `vocabulary` tokens; no text is unknown to it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=PAD,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        clean_up_tokenization_spaces=False,
    )


def _network(settings: FreshSettings, tokenizer: Any, seed: int) -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLModel

    def token_id(token: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(token))

    half = settings.hidden_size // settings.heads // 2
    section = [half - 2 * (half // 3), half // 3, half // 3]
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": settings.vocabulary,
            "hidden_size": settings.hidden_size,
            "intermediate_size": settings.intermediate_size,
            "num_hidden_layers": settings.layers,
            "num_attention_heads": settings.heads,
            "num_key_value_heads": settings.key_value_heads,
            "max_position_embeddings": 2048,
            "max_window_layers": settings.layers,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": section,
            },
            "bos_token_id": token_id(PAD),
            "eos_token_id": token_id(PAD),
            "pad_token_id": token_id(PAD),
        },
        vision_config={
            "depth": settings.vision_layers,
            "embed_dim": settings.vision_size,
            "hidden_size": settings.hidden_size,
            "num_heads": settings.vision_heads,
            "mlp_ratio": 4,
            "patch_size": settings.patch_size,
            "spatial_merge_size": settings.merge_size,
            "temporal_patch_size": 2,
        },
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        # No head is written; tied, the generation class opens the folder as well.
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2VLModel(config)


def _image_processor(settings: FreshSettings) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        size={
            "shortest_edge": (settings.patch_size * settings.merge_size) ** 2,
            "longest_edge": settings.image_size**2,
        },
        patch_size=settings.patch_size,
        merge_size=settings.merge_size,
    )


def _check(settings: FreshSettings) -> None:
    tile = settings.patch_size * settings.merge_size
    faults = {
        "fresh.hidden_size must be a multiple of 2 * fresh.heads": settings.hidden_size
        % (2 * settings.heads),
        "fresh.heads must be a multiple of fresh.key_value_heads": settings.heads
        % settings.key_value_heads,
        "fresh.vision_size must be a multiple of 4 * fresh.vision_heads": settings.vision_size
        % (4 * settings.vision_heads),
        "fresh.image_size must be a multiple of patch_size * merge_size": settings.image_size
        % tile,
        "fresh.vocabulary must be at least 300": settings.vocabulary < 300,
    }
    for rule, broken in faults.items():
        if broken:
            raise ConfigError(f"{rule}.", cause=f"The settings are {settings}.")
