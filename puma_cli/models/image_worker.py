"""A process that decodes and resizes images for another: `python -m puma_cli.models.image_worker`.

It reads requests from standard input, a line of JSON each, and writes to standard output width,
height and length of the pixels as three numbers of 32 bits, then the pixels. A length of 0 says
that there are none. It ends when its input does, so it never outlives whoever started it.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from puma_cli.models.image_reader import open_image

HEADER = struct.Struct("<III")
# The image processor refuses images of sides that differ by more.
_LONGEST = 200


def main() -> None:
    """Serve requests until there are no more."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    for line in requests:
        serve(line, replies)


def serve(line: bytes, replies: BinaryIO) -> None:
    """Answer one request."""
    asked = json.loads(line)
    try:
        image = open_image(Path(asked["path"]))
        if max(image.size) > _LONGEST * min(image.size):
            raise ValueError(image.size)
        bounds = asked["factor"], asked["least"], asked["most"]
        size = fitting_size(*image.size, *bounds)
        if size != fitting_size(*size, *bounds):
            # The processor, which comes after this, would resize such a thin image once more.
            raise ValueError(size)
        pixels = image.resize(size, asked["resample"]).tobytes()
    except Exception:
        # The one that asked opens the image itself and says what is wrong with it.
        size, pixels = (0, 0), b""
    replies.write(HEADER.pack(*size, len(pixels)))
    replies.write(pixels)
    replies.flush()


def fitting_size(width: int, height: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """Return the width and height that Qwen2-VL's image processor resizes an image to.

    Args:
        factor: pixels of a token's side.
        least: fewest pixels of the result.
        most: most pixels of the result, which keeps the image's proportions as nearly as it can.
    """
    sides = [round(side / factor) * factor for side in (width, height)]
    if math.prod(sides) > most:
        shrink = math.sqrt(width * height / most)
        sides = [
            max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height)
        ]
    elif math.prod(sides) < least:
        grow = math.sqrt(least / (width * height))
        sides = [math.ceil(side * grow / factor) * factor for side in (width, height)]
    return sides[0], sides[1]


if __name__ == "__main__":
    Image.init()
    main()
