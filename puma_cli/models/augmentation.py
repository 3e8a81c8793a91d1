"""A random view of an image, fixed by a seed: turned, scaled, shifted, on a tinted ground."""

from __future__ import annotations

import random

from PIL import Image

LARGEST_TURN = 20.0
SMALLEST_SCALE = 0.7
PALEST_TINT = 200


def random_view(image: Image.Image, seed: int) -> Image.Image:
    """Return a view of an RGB or RGBA image, the same for the same seed, as RGB of equal size.

    Turned by up to 20 degrees, scaled to between 70% and 100%, shifted within the frame. A ground
    that is transparent takes a pale tint; an opaque one is turned with the picture.
    """
    draw = random.Random(seed)
    ground = tuple(draw.randint(PALEST_TINT, 255) for _ in range(3))
    picture = image.convert("RGBA")
    scale = draw.uniform(SMALLEST_SCALE, 1.0)
    width, height = (max(1, round(side * scale)) for side in image.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    picture = picture.rotate(draw.uniform(-LARGEST_TURN, LARGEST_TURN), Image.Resampling.BICUBIC)
    canvas = Image.new("RGBA", image.size, (*ground, 255))
    corner = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    canvas.alpha_composite(picture, corner)
    return canvas.convert("RGB")
