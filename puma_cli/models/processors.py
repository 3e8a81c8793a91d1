"""Opening what prepares a model's inputs, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from puma_cli.models.embedder_settings import EmbedderSettings
from puma_cli.models.quiet import quiet_transformers


def open_processors(folder: Path, settings: EmbedderSettings) -> tuple[Any, Any]:
    """Return the tokenizer and the image processor of a checkpoint, within its limits of pixels."""
    from transformers import AutoImageProcessor, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    image_processor.size = settings.image_size
    return tokenizer, image_processor
