"""Qwen3-VL-Embedding: the instruction in the system turn, read at the last token of the chat."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.models.embedder_settings import (
    SYSTEM,
    EmbedderSettings,
    decoder_width,
    pixel_limits,
)
from puma_cli.models.importing.chat import CHATML, added_tokens, last_token, own_template

# Of documents, and of queries without an instruction of their own.
INSTRUCTION = "Represent the user's input."
_LONGEST = 8192
_CARD_BYTES = 20_000


def is_qwen3_vl_embedding(folder: Path) -> bool:
    """Tell whether a folder is a Qwen3-VL-Embedding: its weights alone would be a chat model's."""
    if read_object(folder / layout.CONFIG).get("model_type") != "qwen3_vl":
        return False
    if (folder / "scripts" / "qwen3_vl_embedding.py").is_file():
        return True
    if INSTRUCTION in (own_template(folder) or "").replace("\\'", "'"):
        return True
    card = folder / layout.CARD
    if not card.is_file():
        return False
    start = card.read_text(encoding="utf-8", errors="replace")[:_CARD_BYTES]
    return "Qwen3-VL-Embedding" in start


def qwen3_vl_embedding_settings(folder: Path) -> EmbedderSettings:
    """Return how a Qwen3-VL-Embedding embeds.

    Its script renders the chat template up to where an answer would begin, and reads the last token
    there is then: whatever its tokenizer adds behind, or the template's own last. It also ends an
    instruction on a full stop, which is left to the user here.
    """
    config = read_object(folder / layout.CONFIG)
    low, high = pixel_limits(folder)
    _, behind = added_tokens(folder)
    template = CHATML + "".join(behind)
    return EmbedderSettings(
        template=template,
        embed_token=behind[-1] if behind else last_token(folder, "<|im_start|>assistant\n"),
        dimension=decoder_width(config),
        min_pixels=low,
        max_pixels=high,
        instruction=SYSTEM,
        max_text_tokens=_LONGEST,
        default_instruction=INSTRUCTION,
    )
