"""Adapter folders, such as VLM2Vec's: merged into their base once, and kept in the cache.

What is merged is a checkpoint like any other, so that every command takes it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.output_folder import new_folder
from puma_cli.checkpoint.shard_index import weight_files
from puma_cli.checkpoint.source import ADAPTER_CONFIG
from puma_cli.encoding.cache_folder import cache_folder
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import (
    EmbedderSettings,
    has_embedder_settings,
    pixel_limits,
    settings_for,
    write_embedder_settings,
)
from puma_cli.models.importing.lora import ADAPTER_WEIGHTS, Delta, plain_name, read_deltas

MERGED: Final = "merged"
_NAME = 32
_LONGEST: Final = 4096
# The image's token without those around it, a space, and the text; no turns. Its published code
# lets older releases of transformers find positions, which without a token of where an image begins
# count image tokens like words; today's count them in three dimensions, and so does puma.
TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}"
    "{{- '<|image_pad|>' -}}{%- if not loop.last -%}{{- ' ' -}}{%- endif -%}"
    "{%- else -%}{{- part.text -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
)


def merged_folder(adapter: Path, base: Callable[[str], Path]) -> Path:
    """Return a checkpoint in the cache that is the adapters' base with them merged.

    Args:
        adapter: a folder with `adapter_config.json`.
        base: from the name of the base to its folder.

    Raises:
        CheckpointError: the adapters are of a kind that puma does not merge, or for another base,
            or their base is not to be had.
    """
    config = read_object(adapter / ADAPTER_CONFIG)
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{adapter / ADAPTER_CONFIG} does not name its base model.")
    beside = adapter / name
    try:
        source = base(str(beside) if beside.is_dir() else name)
    except CheckpointError as error:
        raise CheckpointError(
            f"The base of the adapters in {adapter} is not to be had: {name}.",
            cause=error.problem,
            hint=f"Write where it is into {ADAPTER_CONFIG}, as base_model_name_or_path.",
        ) from error
    weights = adapter / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{adapter} has no {ADAPTER_WEIGHTS}.")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update((adapter / ADAPTER_CONFIG).read_bytes())
    digest.update(identify(source).encode())
    target = cache_folder() / MERGED / digest.hexdigest()[:_NAME]
    if not (target / layout.CONFIG).is_file():
        _merge(source, adapter, read_deltas(adapter, config), target)
    return target


def _merge(source: Path, adapter: Path, deltas: Mapping[str, Delta], target: Path) -> None:
    from puma_cli.pruning.writing.side_files import copy_side_files

    settings = _settings(source)
    with new_folder(target, inputs=[source, adapter]) as draft:
        copy_side_files(source, draft, keeps_head=True)
        for name in (layout.CONFIG, layout.INDEX):
            if (source / name).is_file():
                shutil.copyfile(source / name, draft / name)
        used = set()
        for file in weight_files(source):
            used |= _merge_file(file, draft / file.name, deltas)
        missing = sorted(set(deltas) - used)
        if missing:
            raise _other_base(source, f"it has no weight {missing[0]}")
        write_embedder_settings(settings, draft)


def _merge_file(file: Path, written: Path, deltas: Mapping[str, Delta]) -> set[str]:
    """Write a shard with what belongs to it added; return which deltas these were."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    used = set()
    with safe_open(file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118
            value = opened.get_tensor(name)
            place = plain_name(name)
            if place in deltas:
                if deltas[place].shape != tuple(value.shape):
                    theirs = list(deltas[place].shape)
                    raise _other_base(
                        file.parent, f"its {name} is {list(value.shape)}, theirs {theirs}"
                    )
                value = deltas[place].merged(value)
                used.add(place)
            tensors[name] = value.contiguous()
        save_file(tensors, written, metadata={"format": "pt"})
    return used


def _settings(source: Path) -> EmbedderSettings:
    """Return the base's own settings, or VLM2Vec's convention for a model that has none."""
    found = settings_for(source)
    if has_embedder_settings(source) or not found.sees:
        return found
    low, high = pixel_limits(source)
    return replace(
        found,
        template=TEMPLATE,
        embed_token="",
        min_pixels=low,
        max_pixels=high,
        max_text_tokens=_LONGEST,
    )


def _other_base(source: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"The adapters do not fit their base {source}: {why}.",
        cause="They were trained over another model.",
        hint=f"Write the right one into {ADAPTER_CONFIG}, as base_model_name_or_path.",
    )
