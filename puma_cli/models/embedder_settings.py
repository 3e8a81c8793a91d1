"""How a checkpoint is used as an embedder: `embedder.json`, or what stands in for it.

Prompt, pixel limits and pooling are decided here once, for training, evaluation and export alike.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.errors import CheckpointError

# Image first, then the text; the sequence ends exactly on the embed token, since no loader pools
# in mid-sequence.
PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- else -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}EMBED_TOKEN"
)

# The paper's prompt, for checkpoints that were never trained as embedders.
SUMMARY_TEMPLATE = (
    "{%- set seen = namespace(image=false, text=false) -%}"
    "{{ '<|im_start|>user\\n' }}"
    "{%- for message in messages -%}"
    "{%- if message.content is string -%}"
    "{%- set seen.text = true -%}{{ message.content }}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}"
    "{%- set seen.image = true -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- else -%}{%- set seen.text = true -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
    "{{ '\\nSummarize above ' }}"
    "{%- if seen.image and seen.text -%}image and sentence"
    "{%- elif seen.image -%}image{%- else -%}sentence{%- endif -%}"
    "{{ ' in one word: ' }}EMBED_TOKEN"
)

# Tokens that stock models were trained to end a turn or a text on, best first.
STOCK_EMBED_TOKENS = ("<|im_end|>", "<|endoftext|>")


@dataclass(frozen=True)
class EmbedderSettings:
    """The contents of `embedder.json`.

    Args:
        template: Jinja chat template whose rendering ends on `embed_token`.
        embed_token: the token at which the hidden state is read.
        dimension: length D of the embedding.
        min_pixels: images are enlarged to at least this area in pixels.
        max_pixels: images are reduced to at most this area in pixels.
        instruction: where a query's instruction goes: `text` puts it on a line before the text.
        pooling: `last` reads the hidden state of the last real token.
        normalize: divide embeddings by their L2 norm.
        max_text_tokens: longer texts are cut (>= 1).
        head: safetensors file of an affine map that makes embeddings of the post-norm states, or
            None where these are the embeddings.
    """

    template: str
    embed_token: str
    dimension: int
    min_pixels: int
    max_pixels: int
    instruction: str = "text"
    pooling: str = "last"
    normalize: bool = True
    max_text_tokens: int = 450
    head: str | None = None

    @property
    def image_size(self) -> dict[str, int]:
        """The limits of pixels as an image processor takes them."""
        return {"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels}

    def limited(self, most: int) -> EmbedderSettings:
        """Return these settings with images of at most so many pixels; never more than now."""
        return replace(
            self, min_pixels=min(most, self.min_pixels), max_pixels=min(most, self.max_pixels)
        )


def read_embedder_settings(folder: Path) -> EmbedderSettings:
    """Read `embedder.json` of a checkpoint folder.

    Raises:
        CheckpointError: the file is missing, no JSON, or has unknown or missing keys.
    """
    path = folder / layout.EMBEDDER
    content = read_object(path)
    known = {entry.name for entry in fields(EmbedderSettings)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise CheckpointError(
            f"{path} has the unknown key {unknown[0]!r}.", hint=f"Known keys: {sorted(known)}."
        )
    try:
        settings = EmbedderSettings(**content)
    except TypeError as error:
        raise CheckpointError(f"{path} lacks a key.", cause=str(error)) from error
    for entry in fields(EmbedderSettings):
        value = getattr(settings, entry.name)
        kind = "None" if value is None else type(value).__name__
        if kind not in str(entry.type).split(" | "):  # annotations are strings here
            raise CheckpointError(
                f"{path} has {entry.name} {value!r}.",
                cause=f"It takes a value of type {entry.type}.",
            )
    if settings.pooling != "last" or settings.instruction != "text":
        raise CheckpointError(
            f"{path} asks for pooling {settings.pooling!r} and instruction position "
            f"{settings.instruction!r}.",
            hint="This version reads pooling 'last' and instruction 'text'.",
        )
    return settings


def write_embedder_settings(settings: EmbedderSettings, folder: Path) -> None:
    """Write `embedder.json` into `folder`."""
    content = asdict(settings)
    if settings.head is None:
        # Earlier versions read such a folder too.
        del content["head"]
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / layout.EMBEDDER).write_text(text + "\n", encoding="utf-8")


def has_embedder_settings(folder: Path) -> bool:
    """Tell whether the folder says itself how it embeds."""
    return (folder / layout.EMBEDDER).is_file()


def settings_for(folder: Path) -> EmbedderSettings:
    """Return the folder's `embedder.json`, or settings derived for a stock checkpoint.

    A stock checkpoint gets the paper's prompt and ends on one of its own trained special tokens.

    Raises:
        CheckpointError: neither is possible.
    """
    if has_embedder_settings(folder):
        return read_embedder_settings(folder)
    config = read_object(folder / layout.CONFIG)
    pixels = _pixel_limits(folder)
    token = _stock_embed_token(folder)
    return EmbedderSettings(
        template=SUMMARY_TEMPLATE.replace("EMBED_TOKEN", token),
        embed_token=token,
        dimension=width_of(config),
        min_pixels=pixels[0],
        max_pixels=pixels[1],
    )


def drop_head(folder: Path) -> str | None:
    """Make `embedder.json` of `folder` name no head; return the name of the one it named.

    A head belongs to the layers that it was fitted after, so a further cut goes without.

    Raises:
        CheckpointError: `embedder.json` or `config.json` is broken.
    """
    if not has_embedder_settings(folder):
        return None
    settings = read_embedder_settings(folder)
    if settings.head is None:
        return None
    width = width_of(read_object(folder / layout.CONFIG))
    write_embedder_settings(replace(settings, head=None, dimension=width), folder)
    (folder / settings.head).unlink(missing_ok=True)
    return settings.head


def width_of(config: dict[str, Any]) -> int:
    """Return the length of the decoder's states that a raw config names, or 0."""
    return int(config.get("text_config", config).get("hidden_size", 0))


def _pixel_limits(folder: Path) -> tuple[int, int]:
    path = folder / layout.PREPROCESSOR
    content = read_object(path) if path.is_file() else {}
    size = content.get("size") or {}
    # The paper's limits are the upper bound: a stock processor allows 12,845,056 pixels an image.
    low = content.get("min_pixels") or size.get("shortest_edge") or 4 * 28 * 28
    high = content.get("max_pixels") or size.get("longest_edge") or 300 * 28 * 28
    return int(low), max(int(low), min(int(high), 300 * 28 * 28))


def _stock_embed_token(folder: Path) -> str:
    path = folder / layout.TOKENIZER
    content = read_object(path)
    present = {str(token.get("content")) for token in content.get("added_tokens", [])}
    for token in STOCK_EMBED_TOKENS:
        if token in present:
            return token
    raise CheckpointError(
        f"{folder} has no token to embed at.",
        cause=f"It has no {layout.EMBEDDER}, and its tokenizer has none of "
        f"{', '.join(STOCK_EMBED_TOKENS)}.",
        hint=f"Write {layout.EMBEDDER} beside the weights; docs/architecture.md describes it.",
    )
