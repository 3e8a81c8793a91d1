"""How a folder embeds, by its own files, and which of them said so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from puma_cli.checkpoint import layout
from puma_cli.models.embedder_settings import (
    EmbedderSettings,
    has_embedder_settings,
    read_embedder_settings,
    stock_settings,
)
from puma_cli.models.importing.gme import gme_settings, is_gme
from puma_cli.models.importing.multi_vector import refuse_multi_vector
from puma_cli.models.importing.qwen3_vl_embedding import (
    is_qwen3_vl_embedding,
    qwen3_vl_embedding_settings,
)
from puma_cli.models.importing.sentence_transformers import module_settings


@dataclass(frozen=True)
class Found:
    """How a folder embeds.

    Args:
        source: the file or the convention that says so.
        imported: whether it was made as an embedder elsewhere.
    """

    settings: EmbedderSettings
    source: str
    imported: bool = False


def find_settings(folder: Path) -> Found:
    """Return how a checkpoint embeds; the first that applies, in this order.

    `embedder.json`; the conventions of GME, whose modules are code; `modules.json` of
    sentence-transformers; the conventions of Qwen3-VL-Embedding; and the paper's prompt for a stock
    model. A model of several vectors an input is refused before any but the first.

    Raises:
        CheckpointError: its files contradict one another, or ask for what puma cannot do.
    """
    if has_embedder_settings(folder):
        return Found(read_embedder_settings(folder), layout.EMBEDDER)
    refuse_multi_vector(folder)
    if is_gme(folder):
        return Found(gme_settings(folder), "the conventions of GME-Qwen2-VL", imported=True)
    if (folder / layout.LAYOUT.modules).is_file():
        return Found(module_settings(folder), layout.LAYOUT.modules, imported=True)
    if is_qwen3_vl_embedding(folder):
        settings = qwen3_vl_embedding_settings(folder)
        return Found(settings, "the conventions of Qwen3-VL-Embedding", imported=True)
    return Found(stock_settings(folder), f"the paper's prompt: it has no {layout.EMBEDDER}")
