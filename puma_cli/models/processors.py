"""Opening what prepares a model's inputs, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from puma_cli.checkpoint import layout
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import EmbedderSettings
from puma_cli.models.quiet import quiet_transformers

# Of what transformers makes a tokenizer.
_TOKENIZERS = (layout.TOKENIZER, "vocab.json", "tokenizer.model", "tekken.json")


def check_processors(folder: Path, settings: EmbedderSettings) -> None:
    """Check that a checkpoint says how its inputs are prepared; nothing is opened.

    Raises:
        CheckpointError: it has no tokenizer, or sees images and has no image processor.
    """
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise CheckpointError(
            f"{folder} has no tokenizer.",
            cause=f"{layout.TOKENIZER} is not there.",
            hint="Copy it from the model that this one was made of.",
        )
    if settings.sees and not any(
        (folder / name).is_file() for name in (layout.PREPROCESSOR, layout.LAYOUT.processor)
    ):
        raise CheckpointError(
            f"{folder} has no image processor.",
            cause=f"Neither {layout.PREPROCESSOR} nor {layout.LAYOUT.processor} is there.",
            hint="Copy it from the model that this one was made of.",
        )


def open_processors(folder: Path, settings: EmbedderSettings) -> tuple[Any, Any]:
    """Return the tokenizer and the image processor of a checkpoint, within its limits of pixels.

    A model of text alone has None in place of the second.

    Raises:
        CheckpointError: the folder does not say how inputs are prepared.
    """
    from transformers import AutoImageProcessor, AutoTokenizer

    check_processors(folder, settings)
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if not settings.sees:
            return tokenizer, None
        image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    image_processor.size = settings.image_size
    return tokenizer, image_processor
