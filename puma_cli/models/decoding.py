"""From the bytes of an image file to pixels, or to a sentence that says why there are none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from puma_cli.errors import ImageError

# Raster formats that Pillow decodes itself, and refuses where they are cut short. Of the others
# some start programs, such as Ghostscript; JPEG 2000 shows half a file as if it were whole.
_FORMATS = (
    *("PNG", "JPEG", "MPO", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM"),
    *("ICO", "TGA", "PCX"),
)
# Qwen2-VL's image processor takes no image whose sides are further apart.
_LONGEST = 200
_GREYS = 65_535


def read_encoded(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        ImageError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(
            f"The image {path} is missing.",
            hint="Check the paths in the data set's jsonl files.",
            path=path,
        ) from error
    except (OSError, ValueError) as error:
        problem = f"The image {path} cannot be read."
        raise ImageError(problem, cause=str(error), path=path) from error


def decoded(encoded: bytes, path: Path) -> Image.Image:
    """Return the first frame of an image as RGB, or as RGBA where it may be transparent.

    Args:
        path: where the bytes come from.

    Raises:
        ImageError: they are no image of a format that is read, or a broken one.
    """
    with _explained(path), _opened(encoded) as image:
        if image.mode.startswith(("I", "F")):
            return _from_deep_greys(image)
        return image.convert("RGBA" if image.mode in ("RGBA", "LA", "PA", "P") else "RGB")


def size_of(encoded: bytes, path: Path) -> tuple[int, int]:
    """Return width and height of an image from its header alone.

    Raises:
        ImageError: they are no image of a format that is read, or of a shape that models refuse.
    """
    with _explained(path), _opened(encoded) as image:
        width, height = image.size
        if max(width, height) > _LONGEST * min(width, height):
            raise ValueError(f"Of its sides, {width} x {height}, one is {_LONGEST} times as long.")
        return width, height


def _opened(encoded: bytes) -> Image.Image:
    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]
    return Image.open(io.BytesIO(encoded), formats=known)


def _from_deep_greys(image: Image.Image) -> Image.Image:
    """Return an image of 16 bits as one of 8; Pillow would show all but its darkest as white."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > _GREYS:
        raise ValueError(f"Its values, of mode {image.mode}, have no known range.")
    return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything at all for broken files
        # Pillow names the object in memory that it was given, which means nothing to a user.
        cause = str(error).partition("<_io")[0].strip() or type(error).__name__
        raise ImageError(f"The image {path} cannot be decoded.", cause=cause, path=path) from error
