"""How a checkpoint is used as an embedder: `embedder.json`, or what stands in for it.

Prompt, pixel limits and pooling are decided here once, for training, evaluation and export alike.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.errors import CheckpointError
from puma_cli.models.family_names import TEXT

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

LAST, MEAN, EOS, FIRST = POOLINGS = ("last", "mean", "eos", "first")
ABOVE_TEXT, SYSTEM = INSTRUCTIONS = ("text", "system")
# Where the paper cuts texts.
_TEXT_TOKENS = 450
# The paper's upper bound: a stock processor allows 12,845,056 pixels an image.
PAPER_PIXELS = 300 * 28 * 28


@dataclass(frozen=True)
class EmbedderSettings:
    """The contents of `embedder.json`.

    Args:
        template: Jinja chat template whose rendering ends on `embed_token`.
        embed_token: the token at which the hidden state is read; empty if prompts end on no token
            of their own.
        dimension: length D of the embedding.
        min_pixels: images are enlarged to at least this area in pixels.
        max_pixels: images are reduced to at most this area in pixels; 0 if the model sees none.
        instruction: where an instruction goes: `text` puts it on a line before the text, `system`
            into a system turn, of which the template makes what it will.
        pooling: whose hidden state is read: `last`, the last token's; `eos`, that of the last
            `embed_token`; `first`, the first token's; `mean`, the mean of all.
        normalize: divide embeddings by their L2 norm.
        max_text_tokens: longer texts are cut (>= 1).
        head: safetensors file of an affine map that makes embeddings of the post-norm states, or
            None where these are the embeddings. Of a folder of sentence-transformers, the folder of
            its Dense module.
        default_instruction: what stands for an instruction where there is none, or None.
        query_instruction: the instruction of queries that have none of their own, where queries are
            known as such, or None.
    """

    template: str
    embed_token: str
    dimension: int
    min_pixels: int
    max_pixels: int
    instruction: str = ABOVE_TEXT
    pooling: str = LAST
    normalize: bool = True
    max_text_tokens: int = _TEXT_TOKENS
    head: str | None = None
    default_instruction: str | None = None
    query_instruction: str | None = None

    @property
    def sees(self) -> bool:
        """Whether the model sees images."""
        return self.max_pixels > 0

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
    for key, known_values in (("pooling", POOLINGS), ("instruction", INSTRUCTIONS)):
        if getattr(settings, key) not in known_values:
            raise CheckpointError(
                f"{path} asks for {key} {getattr(settings, key)!r}.",
                hint=f"Known are {', '.join(known_values)}.",
            )
    if settings.pooling == EOS and not settings.embed_token:
        raise CheckpointError(f"{path} asks for pooling 'eos' and names no embed_token.")
    return settings


def write_embedder_settings(settings: EmbedderSettings, folder: Path) -> None:
    """Write `embedder.json` into `folder`."""
    content = asdict(settings)
    for key in ("head", "default_instruction", "query_instruction"):
        if content[key] is None:
            # Earlier versions read such a folder too.
            del content[key]
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / layout.EMBEDDER).write_text(text + "\n", encoding="utf-8")


def has_embedder_settings(folder: Path) -> bool:
    """Tell whether the folder says itself how it embeds."""
    return (folder / layout.EMBEDDER).is_file()


def settings_for(folder: Path) -> EmbedderSettings:
    """Return how a folder embeds: see `puma_cli.models.importing.found.find_settings`.

    Raises:
        CheckpointError: its files do not say, or say something that puma cannot do.
    """
    from puma_cli.models.importing.found import find_settings

    return find_settings(folder).settings


def stock_settings(folder: Path) -> EmbedderSettings:
    """Return settings for a stock checkpoint, which was never trained as an embedder.

    It gets the paper's prompt and ends on one of its own trained special tokens.

    Raises:
        CheckpointError: it has none.
    """
    config = read_object(folder / layout.CONFIG)
    sees = config.get("model_type") not in TEXT
    pixels = pixel_limits(folder, PAPER_PIXELS) if sees else (0, 0)
    token = _stock_embed_token(folder)
    return EmbedderSettings(
        template=SUMMARY_TEMPLATE.replace("EMBED_TOKEN", token),
        embed_token=token,
        dimension=decoder_width(config),
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
    width = decoder_width(read_object(folder / layout.CONFIG))
    write_embedder_settings(replace(settings, head=None, dimension=width), folder)
    if (folder / settings.head).is_dir():
        shutil.rmtree(folder / settings.head)
    else:
        (folder / settings.head).unlink(missing_ok=True)
    _drop_dense(folder)
    return settings.head


def _drop_dense(folder: Path) -> None:
    """Take Dense modules, which are the head elsewhere, out of a folder's `modules.json`."""
    path = folder / layout.LAYOUT.modules
    if not path.is_file():
        return
    entries = json.loads(path.read_text(encoding="utf-8"))
    dense = [each for each in entries if str(each.get("type")).endswith(".Dense")]
    for each in dense:
        shutil.rmtree(folder / str(each["path"]), ignore_errors=True)
    kept = [each for each in entries if each not in dense]
    for number, each in enumerate(kept):
        each.update(idx=number, name=str(number))
    if dense:
        path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def decoder_width(config: dict[str, Any]) -> int:
    """Return the length D of the decoder's states, from a raw `config.json`."""
    return int(config.get("text_config", config).get("hidden_size", 0))


def pixel_limits(folder: Path, most: int | None = None) -> tuple[int, int]:
    """Return the least and the largest area in pixels that a folder's processor brings images to.

    Args:
        most: a bound on the largest.
    """
    content: dict[str, Any] = {}
    for name in (layout.LAYOUT.processor, layout.PREPROCESSOR):
        if (folder / name).is_file():
            read = read_object(folder / name)
            inner = read.get("image_processor")
            content |= inner if isinstance(inner, dict) else read
    size = content.get("size") or {}
    low = content.get("min_pixels") or size.get("shortest_edge") or 4 * 28 * 28
    high = content.get("max_pixels") or size.get("longest_edge") or PAPER_PIXELS
    bounded = int(high) if most is None else min(int(high), most)
    return int(low), max(int(low), bounded)


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
