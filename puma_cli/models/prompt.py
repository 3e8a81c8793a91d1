"""Proof that a folder's prompt template and its tokenizer fit one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import EOS, SYSTEM, EmbedderSettings

IMAGE_TOKEN = "<|image_pad|>"


def check_prompt(tokenizer: Any, settings: EmbedderSettings, folder: Path) -> None:
    """Check that prompts end on the embed token and hold an image token for an image alone.

    A template that breaks this would give vectors without an error, and bad ones.

    Raises:
        CheckpointError: the template or the tokenizer is broken, or they do not fit.
    """
    needed = {settings.embed_token} - {""} | ({IMAGE_TOKEN} if settings.sees else set())
    ids = {token: _known_id(tokenizer, token) for token in sorted(needed)}
    for token, number in ids.items():
        if number is None:
            raise _unfit(folder, f"The tokenizer has no token {token}.")
    contents = [[{"type": "text", "text": "a"}], [{"type": "image"}]][: 1 + settings.sees]
    try:
        rows = [_tokens(tokenizer, settings, content) for content in contents]
    except Exception as error:  # whatever Jinja and the tokenizer make of it
        raise _unfit(folder, f"{type(error).__name__}: {error}") from error
    image = ids.get(IMAGE_TOKEN) or -1
    for images, row in enumerate(rows):
        if settings.embed_token and not _read(row, settings, ids[settings.embed_token]):
            raise _unfit(folder, f"The template does not end on {settings.embed_token}.")
        if settings.sees and row.count(image) != images:
            raise _unfit(folder, f"The template does not write {IMAGE_TOKEN} once for an image.")


def _read(row: list[int], settings: EmbedderSettings, embed: int | None) -> bool:
    """Tell whether the embed token is where the pooling expects it."""
    return embed in row if settings.pooling == EOS else row[-1:] == [embed]


def _known_id(tokenizer: Any, token: str) -> int | None:
    number = tokenizer.get_vocab().get(token)
    return None if number is None else int(number)


def _tokens(
    tokenizer: Any, settings: EmbedderSettings, content: Sequence[dict[str, str]]
) -> list[int]:
    messages = [{"role": "user", "content": content}]
    if settings.instruction == SYSTEM:
        said = [{"type": "text", "text": "b"}]
        messages.insert(0, {"role": "system", "content": said})
    text = tokenizer.apply_chat_template(messages, chat_template=settings.template, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _unfit(folder: Path, cause: str) -> CheckpointError:
    return CheckpointError(
        f"The prompt of {folder} cannot be used.",
        cause=cause,
        hint="Compare its embedder.json and its tokenizer with those of its parent.",
    )
