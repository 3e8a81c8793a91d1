"""Templates of models that are asked in turns, and what a tokenizer adds to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.output_folder import write_json
from puma_cli.errors import CheckpointError

# The turns that all chat models of Qwen were trained with.
CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- else -%}{{- part.text -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
)


def own_template(folder: Path) -> str | None:
    """Return the chat template of a folder, or None if it has none.

    Raises:
        CheckpointError: a file is broken, or there are several templates and none is the default.
    """
    path = folder / layout.CHAT_TEMPLATE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    for name in (layout.LAYOUT.old_chat_template, layout.LAYOUT.tokenizer_config):
        if (folder / name).is_file():
            found = read_object(folder / name).get("chat_template")
            if isinstance(found, list):
                named = {str(each.get("name")): each.get("template") for each in found}
                found = named.get("default")
            if isinstance(found, str):
                return found
    return None


def added_tokens(folder: Path) -> tuple[list[str], list[str]]:
    """Return the tokens that a tokenizer puts before and behind a text by itself.

    Raises:
        CheckpointError: `tokenizer.json` is missing or broken.
    """
    tokenizer = open_tokenizer(folder)
    whole, bare = (
        tokenizer.encode("a", add_special_tokens=added).tokens for added in (True, False)
    )
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise CheckpointError(f"{folder / layout.TOKENIZER} changes texts as it adds tokens to them.")


def open_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder, as the package tokenizers has it.

    Raises:
        CheckpointError: `tokenizer.json` is missing or broken.
    """
    from tokenizers import Tokenizer

    path = folder / layout.TOKENIZER
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {layout.TOKENIZER}.",
            hint="Save its tokenizer with AutoTokenizer.from_pretrained(...).save_pretrained(...).",
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # of whatever kind tokenizers makes
        raise CheckpointError(f"{path} cannot be read.", cause=str(error)) from error


def literal(text: str) -> str:
    """Return Jinja that writes `text` as it is."""
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return "{{ '" + quoted + "' }}" if text else ""


def last_token(folder: Path, text: str) -> str:
    """Return the last token of `text`, by its name in the vocabulary."""
    tokens: list[str] = open_tokenizer(folder).encode(text, add_special_tokens=False).tokens
    return tokens[-1] if tokens else ""


def write_plain_tokenizer(folder: Path) -> None:
    """Make a folder's tokenizer add no token by itself: its template says them all."""
    path = folder / layout.TOKENIZER
    if path.is_file() and any(added_tokens(folder)):
        content = read_object(path)
        content["post_processor"] = None
        write_json(path, content)
