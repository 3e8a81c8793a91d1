"""The prompts of a folder of sentence-transformers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from puma_cli.checkpoint.json_object import read_object
from puma_cli.errors import CheckpointError

MODEL_CONFIG: Final = "config_sentence_transformers.json"
# Where several models of instructions name the task, what is around it is part of the prompt.
_INSTRUCT: Final = re.compile(r"(Instruct: ?)(.+?)(\n ?Query: ?)", re.DOTALL)


@dataclass(frozen=True)
class Prompts:
    """What is put before texts.

    Args:
        query: the instruction of queries, or None.
        default: the instruction of everything else, or None.
        wraps: what stands before and behind an instruction, or None if nothing does.
    """

    query: str | None = None
    default: str | None = None
    wraps: tuple[str, str] | None = None


def read_prompts(folder: Path) -> Prompts:
    """Return the prompts of a folder, those of queries and of documents.

    Raises:
        CheckpointError: they are no texts, or the default is none of them.
    """
    path = folder / MODEL_CONFIG
    content = read_object(path) if path.is_file() else {}
    prompts = content.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(v, str) for v in prompts.values()):
        raise CheckpointError(f"{path} has prompts that are no texts by name.")
    usual = content.get("default_prompt_name")
    if usual is not None and usual not in prompts:
        raise CheckpointError(f"{path} has no prompt {usual!r}, its default.")
    # Exactly what encode_query and encode_document take there: neither knows the default, nor a
    # prompt for documents of another name.
    query, document = (prompts.get(name) or "" for name in ("query", "document"))
    match = _INSTRUCT.fullmatch(query)
    if match and not document:
        return Prompts(match[2], None, (match[1], match[3]))
    return Prompts(query or None, document or None)
