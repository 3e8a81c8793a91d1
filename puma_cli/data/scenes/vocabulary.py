"""The words and colours that scenes are made of."""

from __future__ import annotations

from typing import Final

RGB = tuple[int, int, int]

COLOURS: Final[dict[str, RGB]] = {
    "red": (222, 28, 36),
    "green": (20, 150, 50),
    "blue": (34, 84, 240),
    "yellow": (255, 224, 0),
    "purple": (142, 36, 190),
    "orange": (255, 128, 0),
}
SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES: Final = ("small", "large")
RELATIONS: Final = ("left", "above")
BACKGROUNDS: Final[dict[str, RGB]] = {
    "white": (255, 255, 255),
    "black": (12, 12, 12),
    "grey": (140, 140, 140),
    "sand": (224, 202, 168),
}

# What image+text candidates are drawn on: their background is told by the text alone.
NEUTRAL_GROUND: Final[RGB] = (198, 230, 238)
