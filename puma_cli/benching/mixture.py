"""Inputs for a bench without a data set: texts, pictures, and texts with pictures, a third each."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from puma_cli.models.inputs import Input

SHORTEST, LONGEST = 4, 64
INSTRUCTION: Final = "Find what answers this."
_TEXT: Final = (
    "a the of in on with two red small old green house street woman dog photograph river table "
    "city morning who what where painted wooden glass large near under between holding white "
    "history music winter recipe train mountain bread report people light open market window"
)
# Of a picture's own details; enlarged, they are as smooth as a photograph's.
_DETAIL = 24


def make_mixture(
    folder: Path, count: int, side: int, seed: int = 0, *, images: bool = True
) -> tuple[list[Input], list[Input]]:
    """Return as many queries as candidates, whose pictures are written into a folder.

    Texts have 4 to 64 words, as many short as long ones by the logarithm; queries carry an
    instruction besides.

    Args:
        count: number of either (>= 1).
        side: width and height of the pictures in pixels (>= 1).
        images: False for texts alone.
    """
    random = np.random.default_rng(seed)
    found = [_entry(folder, place, side, random, images) for place in range(2 * count)]
    queries = [replace(entry, instruction=INSTRUCTION) for entry in found[:count]]
    return queries, found[count:]


def describe_mixture(count: int, side: int, *, images: bool = True) -> str:
    """Return the mixture in words."""
    words = f"texts of {SHORTEST} to {LONGEST} words"
    if not images:
        return f"a made-up mixture, {count} queries and {count} candidates: {words}"
    return (
        f"a made-up mixture, {count} queries and {count} candidates, a third each of {words}, "
        f"pictures of {side} x {side}, and both"
    )


def _entry(folder: Path, place: int, side: int, random: np.random.Generator, images: bool) -> Input:
    kind = place % 3 if images else 0
    # Drawn for every entry, so that what follows does not depend on its kind.
    length = round(math.exp(random.uniform(math.log(SHORTEST), math.log(LONGEST))))
    text = " ".join(random.choice(_TEXT.split(), length))
    if kind == 0:
        return Input(text=text)
    path = folder / f"{place}.jpg"
    coarse = random.integers(0, 256, (_DETAIL, _DETAIL, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
    return Input(text=None if kind == 1 else text, image=path)
