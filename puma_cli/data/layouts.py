"""Telling what a path holds: the M-BEIR layout, MMEB's, or tables of pairs."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.data.mmeb.folder import is_mmeb
from puma_cli.data.pairs.files import find_tables

MBEIR = "mbeir"
MMEB = "mmeb"
PAIRS = "pairs"


def tell_layout(path: Path) -> str:
    """Return `mbeir`, `mmeb` or `pairs`; what is none of them is taken for the first."""
    if any((path / room).is_dir() for room in (LAYOUT.queries, LAYOUT.pools)):
        return MBEIR
    if path.is_file():
        return PAIRS
    if is_mmeb(path):
        return MMEB
    return PAIRS if path.is_dir() and find_tables(path) else MBEIR
