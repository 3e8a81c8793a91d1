"""Scenes as small pictures."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from math import cos, pi, sin
from random import Random

from PIL import Image, ImageDraw

from puma_cli.data.scenes.scene import Scene
from puma_cli.data.scenes.vocabulary import BACKGROUNDS, COLOURS, NEUTRAL_GROUND, RGB

SIDE = 56
_DETAIL = 8
# Widths in pixels; the two ranges stay far apart, so that the size shows without a comparison.
_WIDTHS = {"small": (12, 13, 14), "large": (21, 22, 23)}
_NEAR, _FAR = 15, 41


def draw(scene: Scene, rng: Random, *, shading: int, neutral: bool = False) -> bytes:
    """Draw a scene as a PNG of `SIDE` x `SIDE` pixels.

    Args:
        scene: what to draw.
        rng: places, widths and shades are drawn from it.
        shading: the most by which a colour channel departs from its name's, 0 to 255.
        neutral: draw on the neutral ground instead of the scene's background.
    """
    ground = NEUTRAL_GROUND if neutral else _shade(BACKGROUNDS[scene.background], rng, shading // 2)
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    for thing, along in zip(scene.things, (_NEAR, _FAR), strict=True):
        width = rng.choice(_WIDTHS[thing.size])
        half = width // 2
        slack = min(3, (SIDE // 2 - width) // 2)
        along += rng.randint(-slack, slack) - half
        across = SIDE // 2 + rng.randint(-7, 7) - half
        corner = (along, across) if scene.relation == "left" else (across, along)
        colour = _shade(COLOURS[thing.colour], rng, shading)
        mask = _sprite(thing.shape, width)
        picture.paste(colour, (*corner, corner[0] + width, corner[1] + width), mask)
    out = BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _shade(colour: RGB, rng: Random, most: int) -> RGB:
    red, green, blue = (min(255, max(0, c + rng.randint(-most, most))) for c in colour)
    return red, green, blue


@cache
def _sprite(shape: str, width: int) -> Image.Image:
    """Draw a shape `width` pixels wide as an antialiased mask."""
    size = width * _DETAIL
    mask = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(mask)
    last = size - 1
    if shape == "circle":
        pen.ellipse((0, 0, last, last), fill=255)
    elif shape == "ring":
        pen.ellipse((0, 0, last, last), fill=255)
        edge = size * 0.27
        pen.ellipse((edge, edge, last - edge, last - edge), fill=0)
    elif shape == "square":
        inset = size * 0.06
        pen.rectangle((inset, inset, last - inset, last - inset), fill=255)
    elif shape == "triangle":
        pen.polygon([(last / 2, 0), (last, last * 0.93), (0, last * 0.93)], fill=255)
    elif shape == "cross":
        low, high = size * 0.34, size * 0.66
        pen.rectangle((low, 0, high, last), fill=255)
        pen.rectangle((0, low, last, high), fill=255)
    else:
        pen.polygon(_star(size), fill=255)
    return mask.resize((width, width), Image.Resampling.BOX)


def _star(size: int) -> list[tuple[float, float]]:
    middle, points = size / 2, []
    for step in range(10):
        radius = middle * (1.0 if step % 2 == 0 else 0.42)
        angle = pi * (step / 5 - 0.5)
        points.append((middle + radius * cos(angle), middle + radius * sin(angle)))
    return points
