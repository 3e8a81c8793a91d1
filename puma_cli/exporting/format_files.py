"""The files of one format."""

from __future__ import annotations

import shutil
from pathlib import Path

from puma_cli.exporting.formats import PARITY, TRANSFORMERS
from puma_cli.exporting.outgoing import Outgoing
from puma_cli.exporting.sentence_transformers_files import write_modules
from puma_cli.exporting.template import exported_template
from puma_cli.models.embedder_settings import write_embedder_settings
from puma_cli.models.head import write_head
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.importing.chat import write_plain_tokenizer
from puma_cli.progress import Reporter
from puma_cli.pruning.planning.plan import PrunePlan
from puma_cli.pruning.writing.side_files import copy_side_files, limit_pixels
from puma_cli.pruning.writing.template_file import set_template
from puma_cli.pruning.writing.truncate import write_weights


def write_format(
    model: Outgoing,
    plan: PrunePlan,
    name: str,
    folder: Path,
    shard_bytes: int | None,
    reporter: Reporter,
) -> None:
    """Write a format's folder, but for its card and provenance."""
    copy_side_files(model.folder, folder, reporter, keeps_head=True)
    _drop_modules(folder)
    write_embedder_settings(model.settings, folder)
    if model.head is not None:
        write_head(model.head, folder / BRIDGE)
    if model.settings.sees:
        limit_pixels(folder, model.settings.image_size)
    write_plain_tokenizer(folder)
    set_template(folder, exported_template(model.settings))
    write_weights(plan, folder, reporter, shard_bytes=shard_bytes)
    if name != TRANSFORMERS:
        write_modules(
            folder,
            model.settings,
            width=model.width,
            head=model.head,
            images=model.images,
            prompts=model.prompts,
        )


def _drop_modules(folder: Path) -> None:
    """Remove what an earlier export of the model was described by."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name.startswith(("modules.json", "sentence_bert", "config_sentence", PARITY)):
            path.unlink()
