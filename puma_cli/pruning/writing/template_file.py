"""The chat template of a checkpoint, where all loaders look for it."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.layout import CHAT_TEMPLATE, LAYOUT
from puma_cli.checkpoint.output_folder import write_json, write_text


def set_template(folder: Path, template: str) -> None:
    """Leave one chat template in a folder: loaders differ in which of several they take."""
    write_text(folder / CHAT_TEMPLATE, template)
    (folder / LAYOUT.old_chat_template).unlink(missing_ok=True)
    path = folder / LAYOUT.tokenizer_config
    if path.is_file():
        content = read_object(path)
        if content.pop("chat_template", None) is not None:
            write_json(path, content)
