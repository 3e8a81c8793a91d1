"""Image files as pictures inside the page."""

from __future__ import annotations

import base64
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from puma_cli.errors import DataError

SHOWN = 112  # pixels across on the page
LARGEST = 2 * SHOWN


@lru_cache(maxsize=512)
def data_uri(path: Path) -> tuple[str, bool]:
    """Return a picture as a `data:` address, and whether it is too small to be shown smoothly.

    Large pictures are reduced to what the page shows; small ones are enlarged by a whole factor, so
    that their pixels stay square.

    Raises:
        DataError: the file is missing or no picture.
    """
    picture = read_picture(path)
    small = max(picture.size) < SHOWN
    if small:
        factor = -(-SHOWN // max(picture.size))
        picture = picture.resize(
            (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
        )
    else:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    # A photograph is many times smaller as JPEG; drawings keep their edges, and what is clear.
    photograph = picture.mode == "RGB" and not small and not picture.getcolors(maxcolors=4096)
    kind = "jpeg" if photograph else "png"
    buffer = BytesIO()
    if photograph:
        picture.save(buffer, "JPEG", quality=82, optimize=True)
    else:
        picture.save(buffer, "PNG", optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", small


def read_picture(path: Path) -> Image.Image:
    """Return an image file as RGB or RGBA.

    Raises:
        DataError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as opened:
            return opened.convert("RGBA" if "A" in opened.mode or opened.mode == "P" else "RGB")
    except FileNotFoundError as error:
        raise DataError(f"The image {path} is missing.") from error
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"The image {path} cannot be read.", cause=str(error)) from error
