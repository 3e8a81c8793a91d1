"""Embedding what a program has in its hands: texts, pictures, and both together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from puma_cli.errors import ConfigError, DataError
from puma_cli.models.embedder_settings import EmbedderSettings
from puma_cli.models.inputs import Input

# What PNG holds without loss, and a reader understands; other modes become RGB, as in a file.
_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"})
_KEYS = ("text", "image", "instruction")

Item = str | Path | Image.Image | Mapping[str, Any]
"""A text, an image's path, a picture, or some of `text`, `image` and `instruction` by name."""


class InPython:
    """The part of an embedder that takes what is no file yet."""

    settings: EmbedderSettings

    def encode(self, inputs: Sequence[Input], batch_size: int = 128) -> Tensor:
        """Return the L2-normalised embeddings of `inputs` (N, D)."""
        raise NotImplementedError

    @overload
    def encode_queries(
        self,
        items: Sequence[Item],
        instruction: str | None = None,
        *,
        batch_size: int = 128,
        output: Literal["numpy"] = "numpy",
    ) -> NDArray[np.float32]: ...

    @overload
    def encode_queries(
        self,
        items: Sequence[Item],
        instruction: str | None = None,
        *,
        batch_size: int = 128,
        output: Literal["torch"],
    ) -> Tensor: ...

    def encode_queries(
        self,
        items: Sequence[Item],
        instruction: str | None = None,
        *,
        batch_size: int = 128,
        output: str = "numpy",
    ) -> NDArray[np.float32] | Tensor:
        """Return the L2-normalised embeddings of queries, in order, fp32 on the CPU (N, D).

        Args:
            items: texts, paths of images, pictures, or dicts with `text`, `image`, `instruction`.
            instruction: what is asked of all that do not say themselves; None for the model's own,
                an empty one for none.
            batch_size: most at once (>= 1).
            output: `numpy` or `torch`.

        Raises:
            DataError: an item is none of these, or its image cannot be read.
        """
        asked = self.settings.query_instruction if instruction is None else instruction
        return self._encode(items, asked or None, batch_size, output)

    @overload
    def encode_documents(
        self,
        items: Sequence[Item],
        *,
        batch_size: int = 128,
        output: Literal["numpy"] = "numpy",
    ) -> NDArray[np.float32]: ...

    @overload
    def encode_documents(
        self, items: Sequence[Item], *, batch_size: int = 128, output: Literal["torch"]
    ) -> Tensor: ...

    def encode_documents(
        self, items: Sequence[Item], *, batch_size: int = 128, output: str = "numpy"
    ) -> NDArray[np.float32] | Tensor:
        """Return the L2-normalised embeddings of documents; see `encode_queries`."""
        return self._encode(items, None, batch_size, output)

    def _encode(
        self, items: Sequence[Item], instruction: str | None, batch_size: int, output: str
    ) -> NDArray[np.float32] | Tensor:
        if output not in ("numpy", "torch"):
            raise ConfigError(f"output = {output!r} is unknown.", hint="Use numpy or torch.")
        if isinstance(items, str | Path | Image.Image | Mapping):
            raise DataError(
                f"One {type(items).__name__} was given.", hint="Give a list, of one if need be."
            )
        with TemporaryDirectory(prefix="puma-") as name:
            inputs = [
                as_input(item, place, Path(name), instruction) for place, item in enumerate(items)
            ]
            vectors = self.encode(inputs, batch_size)
        return vectors.numpy() if output == "numpy" else vectors


def as_input(item: Item, place: int, folder: Path, instruction: str | None) -> Input:
    """Return an item as an input; a picture is written into `folder`, named by its content.

    Raises:
        DataError: the item is of another type, or empty.
    """
    if isinstance(item, str):
        return Input(text=item, instruction=instruction)
    if isinstance(item, Path | Image.Image):
        return Input(image=_file_of(item, folder), instruction=instruction)
    if not isinstance(item, Mapping):
        raise DataError(
            f"Item {place} is a {type(item).__name__}.",
            hint="Give texts, paths of images, PIL images, or dicts with text and image.",
        )
    unknown = sorted(set(item) - set(_KEYS), key=str)
    if unknown:
        raise DataError(
            f"Item {place} has the unknown key {unknown[0]!r}.",
            hint=f"Known are {', '.join(_KEYS)}.",
        )
    text, image = item.get("text"), item.get("image")
    if not isinstance(text, str | None) or not isinstance(image, str | Path | Image.Image | None):
        raise DataError(f"Item {place} has a text or an image of another type: {item!r}.")
    if not text and image is None:
        raise DataError(f"Item {place} has neither a text nor an image.")
    own = item.get("instruction", instruction)
    return Input(
        text=text or None,
        image=None if image is None else _file_of(image, folder),
        instruction=own or None,
    )


def _file_of(image: str | Path | Image.Image, folder: Path) -> Path:
    if not isinstance(image, Image.Image):
        return Path(image)
    picture = image if image.mode in _MODES else image.convert("RGB")
    about = repr((picture.mode, picture.size, picture.info.get("transparency"))).encode()
    palette = picture.palette.tobytes() if picture.palette is not None else b""
    name = hashlib.sha256(about + palette + picture.tobytes()).hexdigest()
    path = folder / f"{name}.png"
    if not path.exists():
        # Without loss, and without a moment more than it must take.
        picture.save(path, "PNG", compress_level=1)
    return path
