"""The nearest known name to a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `Did you mean x?`, or an empty string when nothing known is near `name`.

    Args:
        name: what was typed, possibly dotted.
        known: the legal names; a dotted one is also found by its last part.
    """
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.7)
    if not near:
        leaves: dict[str, str] = {}
        for path in names:
            leaves.setdefault(path.rpartition(".")[2], path)
        near = [
            leaves[leaf]
            for leaf in get_close_matches(name.rpartition(".")[2], leaves, n=1, cutoff=0.7)
        ]
    return f"Did you mean {near[0]}?" if near else ""
