"""Telling what kind of thing a folder holds, from the names in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from puma_cli.checkpoint.layout import CONFIG, LAYOUT, PROVENANCE

STOCK: Final = "checkpoint"
PRUNED: Final = "pruned checkpoint"
DISTILLED: Final = "distilled checkpoint"
UNFINISHED: Final = "unfinished training"
EXPORTED: Final = "exported checkpoint"
EXPORTS: Final = "exports"
DATA: Final = "data set"
MINED: Final = "data set with mined negatives"
PROFILE: Final = "profile"
SCORES: Final = "scores"
DEMO: Final = "demo"
VECTOR_INDEX: Final = "index of vectors"
UNKNOWN: Final = "unknown"

CHECKPOINTS: Final = frozenset({STOCK, PRUNED, DISTILLED, EXPORTED})

_BY_COMMAND: Mapping[str, str] = {
    "prune": PRUNED,
    "distill": DISTILLED,
    "export": EXPORTED,
    "analyze": PROFILE,
    "evaluate": SCORES,
    "demo": DEMO,
    "make_scenes": DATA,
    "mine": MINED,
    "embed": VECTOR_INDEX,
}


def tell_kind(folder: Path) -> str:
    """Return the kind of `folder`: what its `puma.json` says, or what its files look like."""
    kind = _BY_COMMAND.get(_command(folder), "")
    if any(
        (folder / name).is_file() for name in (LAYOUT.training_settings, LAYOUT.training_stages)
    ):
        return UNFINISHED
    if kind in CHECKPOINTS and not (folder / CONFIG).is_file():
        # Exports in several formats lie side by side in one folder.
        return {DISTILLED: UNFINISHED, EXPORTED: EXPORTS}.get(kind, UNKNOWN)
    if kind:
        return kind
    for name, of in (
        (CONFIG, STOCK),
        (LAYOUT.profile, PROFILE),
        (LAYOUT.scores, SCORES),
        (LAYOUT.demo_page, DEMO),
    ):
        if (folder / name).is_file():
            return of
    if any((folder / room).is_dir() for room in (LAYOUT.queries, LAYOUT.pools)):
        return DATA
    return UNKNOWN


def _command(folder: Path) -> str:
    try:
        content = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(content.get("command", "")) if isinstance(content, dict) else ""
