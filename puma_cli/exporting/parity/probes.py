"""What an exported folder is asked to embed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from puma_cli.models.inputs import Input

PROMPT = "Find what matches this."
_TEXTS = (
    "a red square",
    "Two children fly a kite on a wide beach while the sun goes down behind the pier.",
    "Why?",
    "The lighthouse was built in 1887 of granite from the quarry across the bay, and its lamp "
    "could be seen from eighteen miles away on a clear night. " * 2,
)
# Width and height in pixels: smaller and larger than what models allow, wide and tall.
_SIZES = ((56, 56), (90, 60), (37, 140), (300, 220))


@dataclass(frozen=True)
class ProbeBatch:
    """Inputs that are embedded together.

    Args:
        inputs: all with the same instruction, or all without.
        left: pad on the left.
        exact: whether puma pads alike, so that only rounding within a batch can differ.
    """

    inputs: tuple[Input, ...]
    left: bool = False
    exact: bool = True


def probe_batches(folder: Path, images: bool) -> Mapping[str, ProbeBatch]:
    """Return batches by name; their pictures are drawn into `folder`.

    Args:
        images: whether the model sees images.
    """
    kinds = {
        "text": tuple(Input(text=text) for text in _TEXTS),
        "text with instruction": tuple(Input(text=t, instruction=PROMPT) for t in _TEXTS),
    }
    if images:
        pictures = _draw(folder)
        both = tuple(zip(_TEXTS, pictures, strict=True))
        kinds |= {
            "image": tuple(Input(image=picture) for picture in pictures),
            "image with instruction": tuple(
                Input(image=picture, instruction=PROMPT) for picture in pictures
            ),
            "image and text": tuple(Input(text=text, image=picture) for text, picture in both),
            "image and text with instruction": tuple(
                Input(text=text, image=picture, instruction=PROMPT) for text, picture in both
            ),
        }
    found = {}
    for name, inputs in kinds.items():
        found[name] = ProbeBatch(inputs)
        found[f"{name}, padded on the left"] = ProbeBatch(inputs, left=True, exact=False)
        # Against the batch of all, as puma computes it.
        found[f"{name}, alone"] = ProbeBatch(inputs[1:2], exact=False)
    return found


def _draw(folder: Path) -> list[Path]:
    random = np.random.default_rng(0)
    paths = []
    for number, (width, height) in enumerate(_SIZES):
        rows, columns = np.mgrid[0:height, 0:width]
        waves = [
            128 + 127 * np.sin(rows / a + columns / b) for a, b in random.uniform(3, 20, (3, 2))
        ]
        paths.append(folder / f"picture{number}.png")
        Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(paths[-1])
    return paths
