"""The classes of mutations: each changes one thing in a copy of the base data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.evaluation.mutations.base import MBEIR

# Changes a data set below a folder, and returns the part of it that is then scored.
Mutate = Callable[[Path, Random], Path]
CLASSES: dict[str, Mutate] = {}


def mutation(name: str) -> Callable[[Mutate], Mutate]:
    """Enter a function as the class `name`."""

    def enter(function: Mutate) -> Mutate:
        CLASSES[name] = function
        return function

    return enter


def line_files(root: Path, *kinds: str) -> list[Path]:
    """Return the files of some kinds: `query`, `cand_pool/local`, `qrels`."""
    return sorted(p for kind in kinds for p in (root / MBEIR / kind).rglob("*.*"))


def edit_line(path: Path, random: Random, change: Callable[[str], str]) -> None:
    """Change one line of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    place = random.randrange(len(lines))
    lines[place] = change(lines[place])
    path.write_text("".join(line + "\n" for line in lines), "utf-8", "surrogatepass")


def edit_row(path: Path, random: Random, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the object in one line of a jsonl file."""

    def rewritten(line: str) -> str:
        row = json.loads(line)
        change(row)
        return json.dumps(row)

    edit_line(path, random, rewritten)
