"""Proof that a folder's prompt template and its tokenizer fit one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import EmbedderSettings

IMAGE_TOKEN = "<|image_pad|>"


def check_prompt(tokenizer: Any, settings: EmbedderSettings, folder: Path) -> None:
    """Check that prompts end on the embed token and hold an image token for an image alone.

    A template that breaks this would give vectors without an error, and bad ones.

    Raises:
        CheckpointError: the template or the tokenizer is broken, or they do not fit.
    """
    embed, image = (_known_id(tokenizer, t) for t in (settings.embed_token, IMAGE_TOKEN))
    if embed is None or image is None:
        missing = settings.embed_token if embed is None else IMAGE_TOKEN
        raise _unfit(folder, f"The tokenizer has no token {missing}.")
    contents = ([{"type": "text", "text": "a"}], [{"type": "image"}])
    try:
        rows = [_tokens(tokenizer, settings.template, content) for content in contents]
    except Exception as error:  # whatever Jinja and the tokenizer make of it
        raise _unfit(folder, f"{type(error).__name__}: {error}") from error
    for row, images in zip(rows, (0, 1), strict=True):
        if row[-1:] != [embed]:
            raise _unfit(folder, f"The template does not end on {settings.embed_token}.")
        if row.count(image) != images:
            raise _unfit(folder, f"The template does not write {IMAGE_TOKEN} once for an image.")


def _known_id(tokenizer: Any, token: str) -> int | None:
    number = tokenizer.get_vocab().get(token)
    return None if number is None else int(number)


def _tokens(tokenizer: Any, template: str, content: Sequence[dict[str, str]]) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], chat_template=template, tokenize=False
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _unfit(folder: Path, cause: str) -> CheckpointError:
    return CheckpointError(
        f"The prompt of {folder} cannot be used.",
        cause=cause,
        hint="Compare its embedder.json and its tokenizer with those of its parent.",
    )
