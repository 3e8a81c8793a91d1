"""What an embedder embeds: a text, an image, or both, with an optional instruction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Input:
    """One query or candidate.

    Args:
        text: the text, or None.
        image: path of an image file, or None; at least one of the two is given.
        instruction: what is asked of a query; candidates carry none.
        view: seed of a random view of the image, for training; None shows it as it is.
    """

    text: str | None = None
    image: Path | None = None
    instruction: str | None = None
    view: int | None = None

    @property
    def modality(self) -> str:
        """`text`, `image` or `image,text`."""
        if self.image is None:
            return "text"
        return "image" if self.text is None else "image,text"
