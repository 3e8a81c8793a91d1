"""Opening what prepares a model's inputs, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from puma_cli.checkpoint import layout
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import EmbedderSettings
from puma_cli.models.quiet import quiet_transformers


def open_processors(folder: Path, settings: EmbedderSettings) -> tuple[Any, Any]:
    """Return the tokenizer and the image processor of a checkpoint, within its limits of pixels.

    A model of text alone has None in place of the second.

    Raises:
        CheckpointError: the model sees images, and the folder does not say how they are prepared.
    """
    from transformers import AutoImageProcessor, AutoTokenizer

    if settings.sees and not any(
        (folder / name).is_file() for name in (layout.PREPROCESSOR, layout.LAYOUT.processor)
    ):
        raise CheckpointError(
            f"{folder} has no image processor.",
            cause=f"Neither {layout.PREPROCESSOR} nor {layout.LAYOUT.processor} is there.",
            hint="Copy it from the model that this one was made of.",
        )
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if not settings.sees:
            return tokenizer, None
        image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    image_processor.size = settings.image_size
    return tokenizer, image_processor
