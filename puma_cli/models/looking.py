"""Whether an image file can be used, without using it."""

from __future__ import annotations

from pathlib import Path

from puma_cli.errors import ImageError
from puma_cli.models.decoding import decoded, size_of

LOOKS = ("decoded", "headers", "not")
# Of a header: more than nearly any image has before its first pixel.
_HEAD = 1 << 16


def look_at(image: Path, look: str) -> None:
    """Check that an image can be used.

    Args:
        look: `decoded` reads all pixels, `headers` what comes before them, `not` nothing.

    Raises:
        ImageError: it is missing, or what was read of it is broken.
    """
    if look == "not":
        return
    try:
        with image.open("rb") as file:
            start = file.read(_HEAD) if look == "headers" else file.read()
            try:
                size_of(start, image)
            except ImageError:
                if look != "headers":
                    raise
                size_of(start + file.read(), image)
    except FileNotFoundError as error:
        raise ImageError(f"The image {image} is missing.", path=image) from error
    except (OSError, ValueError) as error:
        problem = f"The image {image} cannot be read."
        raise ImageError(problem, cause=str(error), path=image) from error
    if look == "decoded":
        decoded(start, image)
