"""Everything beside weights and config that a cut checkpoint takes from its parent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.output_folder import write_json, write_text
from puma_cli.errors import CheckpointError

# What loaders read; weights in other formats would still hold every layer.
_SUFFIXES = frozenset({".json", ".txt", ".jinja", ".model", ".py", ".tiktoken", ".yaml", ".yml"})
_NAMES = frozenset({"LICENSE", "LICENSE.md", "NOTICE", "NOTICE.md"})
_REWRITTEN = frozenset({layout.CONFIG, layout.PROVENANCE, layout.CARD})
_NOT_OURS = frozenset({layout.TRAINING, layout.LAST})


def copy_side_files(parent: Path, folder: Path) -> list[str]:
    """Copy tokenizer, processors, templates, licences and custom code; return their names."""
    copied = []
    for source in _side_files(parent):
        name = source.relative_to(parent)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A hub snapshot is made of links into a cache: copy what they point to.
        shutil.copyfile(source, target)
        copied.append(name.as_posix())
    return copied


def write_embedder_files(parent: Path, folder: Path) -> None:
    """Make the folder say how it embeds, if the parent only implied it.

    The prompt and the pixel limits also go where plain transformers looks for them, so that stock
    loaders make the same vectors.

    Raises:
        CheckpointError: the parent cannot embed.
    """
    from puma_cli.models.embedder_settings import (
        has_embedder_settings,
        settings_for,
        write_embedder_settings,
    )

    settings = settings_for(parent)
    if has_embedder_settings(parent):
        return
    write_embedder_settings(settings, folder)
    write_text(folder / layout.CHAT_TEMPLATE, settings.template)
    (folder / layout.LAYOUT.old_chat_template).unlink(missing_ok=True)
    limits = {"shortest_edge": settings.min_pixels, "longest_edge": settings.max_pixels}
    for name in (layout.PREPROCESSOR, layout.LAYOUT.processor):
        path = folder / name
        if path.is_file():
            content = read_object(path)
            inner = content.get("image_processor")
            _limit_pixels(inner if isinstance(inner, dict) else content, limits)
            write_json(path, content)


def _limit_pixels(content: dict[str, Any], limits: dict[str, int]) -> None:
    content["size"] = dict(limits)
    # Older processors have names of their own for the same limits, which would win.
    for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if old in content:
            content[old] = limits[new]


def _side_files(parent: Path) -> Iterator[Path]:
    """Yield the parent's side files: those at its top and in folders that are no other result."""
    modules = _module_folders(parent)
    for path in sorted(parent.iterdir()):
        if path.name.startswith(".") or path.name in _REWRITTEN | _NOT_OURS:
            continue
        if path.name in modules:
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.is_file() and _is_side_file(path):
            yield path
        elif path.is_dir() and not (path / layout.PROVENANCE).exists():
            yield from sorted(
                file for file in path.rglob("*") if file.is_file() and _is_side_file(file)
            )


def _is_side_file(path: Path) -> bool:
    if path.name.endswith(".index.json"):
        return False
    return path.suffix in _SUFFIXES or path.name in _NAMES


def _module_folders(parent: Path) -> set[str]:
    """Return the folders of sentence-transformers modules, which may hold weights of their own."""
    path = parent / layout.LAYOUT.modules
    if not path.is_file():
        return set()
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
        return {str(module["path"]) for module in modules} - {""}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"`{path}` cannot be read.", cause=str(error)) from error
