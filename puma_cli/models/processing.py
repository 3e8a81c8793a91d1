"""From inputs to tensors: the prompt, the tokens, the pixels and the M-RoPE positions."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image

from puma_cli.errors import DataError
from puma_cli.models.augmentation import random_view
from puma_cli.models.embedder_settings import EmbedderSettings
from puma_cli.models.inputs import Input
from puma_cli.models.prompt import IMAGE_TOKEN
from puma_cli.models.recently_used import RecentlyUsed

PIXEL_CACHE_BYTES = 1 << 30
FILE_CACHE_BYTES = 256 << 20
POSITION_CACHE_ENTRIES = 10_000
# An image as the vision tower takes it: flattened patches (P, C), and their grid (3).
Pixels = tuple[np.ndarray, tuple[int, ...]]
# What Pillow raises for files that are broken, or that claim to be larger than is safe to open.
_UNDECODABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@dataclass
class Batch:
    """Tensors of B inputs, right-padded to T tokens.

    Args:
        input_ids: token ids (B, T).
        attention_mask: 1 for real tokens (B, T).
        position_ids: M-RoPE positions (3, B, T); padding does not count.
        token_types: 1 at image tokens (B, T).
        last: index of the embed token of each row (B,).
        pixel_values: flattened patches of all images (P, C), or None.
        image_grid: patches in time, height and width of each image (I, 3), or None.
        images: the file of each image that is shown as it is, None of a random view (I).
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    token_types: torch.Tensor
    last: torch.Tensor
    pixel_values: torch.Tensor | None = None
    image_grid: torch.Tensor | None = None
    images: tuple[Path | None, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
            for name, value in vars(self).items()
        }
        return Batch(**moved)


class Processor:
    """Turns inputs into a batch, the same way for training, evaluation and export.

    Args:
        tokenizer: a fast tokenizer whose vocabulary holds the image token.
        image_processor: a Qwen2-VL image processor.
        settings: prompt and limits.
        positions: the model's own `get_rope_index`.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_processor: Any,
        settings: EmbedderSettings,
        positions: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.settings = settings
        self._positions = positions
        self._image_token_id = int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
        self._pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)
        self._specials = sorted(
            {str(token) for token in tokenizer.get_added_vocab()}, key=len, reverse=True
        )
        # Training comes back to the same images: the pixels of recent ones stay in memory, and the
        # small encoded files of many more, since reading them singly can cost more than a step.
        self._pixels: RecentlyUsed[Pixels] = RecentlyUsed(PIXEL_CACHE_BYTES)
        self._files: RecentlyUsed[bytes] = RecentlyUsed(FILE_CACHE_BYTES)
        self._layouts: RecentlyUsed[torch.Tensor] = RecentlyUsed(POSITION_CACHE_ENTRIES)
        self._turn = Lock()

    def render(self, inputs: Sequence[Input]) -> list[str]:
        """Return the prompt of each input, with one image token an image."""
        messages = [[{"role": "user", "content": self._content(entry)}] for entry in inputs]
        return list(
            self.tokenizer.apply_chat_template(
                messages, chat_template=self.settings.template, tokenize=False
            )
        )

    def collate(self, inputs: Sequence[Input]) -> Batch:
        """Return the batch of `inputs`, on the CPU; threads take turns.

        Raises:
            DataError: an image is missing or cannot be decoded.
        """
        # A tokenizer that two threads use at once raises an error.
        with self._turn:
            return self._collate(inputs)

    def _collate(self, inputs: Sequence[Input]) -> Batch:
        pixels = self._pixels_of([(e.image, e.view) for e in inputs if e.image is not None])
        grids = [grid for _, grid in pixels]
        rows = self._token_ids(self.render(inputs), iter(grids))
        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), self._pad_id)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        types = ((ids == self._image_token_id) & (mask == 1)).int()
        positions = torch.zeros(3, len(rows), width, dtype=torch.long)
        remaining = iter(grids)
        for index, (row, entry) in enumerate(zip(rows, inputs, strict=True)):
            grid = next(remaining) if entry.image is not None else None
            positions[:, index, : len(row)] = self._positions_of(types[index, : len(row)], grid)
        return Batch(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            token_types=types,
            last=mask.sum(dim=1) - 1,
            pixel_values=torch.from_numpy(np.concatenate([p for p, _ in pixels]))
            if pixels
            else None,
            image_grid=torch.tensor(grids) if grids else None,
            images=tuple(
                None if entry.view is not None else entry.image
                for entry in inputs
                if entry.image is not None
            ),
        )

    def _content(self, entry: Input) -> list[dict[str, str]]:
        lines = [self._cut(self._plain(line)) for line in (entry.instruction, entry.text) if line]
        parts = [{"type": "image"}] if entry.image is not None else []
        return [*parts, {"type": "text", "text": "\n".join(lines)}] if lines else parts

    def _plain(self, text: str) -> str:
        # A user's text must not smuggle in an image or an early embed token. To take one out may
        # join the halves of another around it, so this goes on until nothing is left to take.
        before = None
        while text != before:
            before = text
            for token in self._specials:
                text = text.replace(token, "")
        return text

    def _cut(self, text: str) -> str:
        limit = self.settings.max_text_tokens
        if len(text) <= limit:  # a token holds at least one byte
            return text
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return text if len(offsets) <= limit else text[: offsets[limit][0]]

    def _token_ids(self, prompts: list[str], grids: Any) -> list[list[int]]:
        merge = self.image_processor.merge_size**2
        rows = self.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        expanded = []
        for row in rows:
            out: list[int] = []
            for token in row:
                count = 1
                if token == self._image_token_id:
                    count = int(np.prod(next(grids))) // merge
                out.extend([token] * count)
            expanded.append(out)
        return expanded

    def _positions_of(self, types: torch.Tensor, grid: tuple[int, ...] | None) -> torch.Tensor:
        if grid is None:
            return torch.arange(len(types)).expand(3, -1)
        first = int(types.argmax())
        key = (len(types), first, grid)
        positions = self._layouts.get(key)
        if positions is None:
            # The stock function walks token by token in Python: worth remembering per layout.
            positions = self._positions(
                input_ids=torch.zeros(1, len(types), dtype=torch.long),
                mm_token_type_ids=types[None],
                image_grid_thw=torch.tensor([grid]),
            )[0][:, 0]
            self._layouts.put(key, positions, 1)
        return positions

    def _pixels_of(self, shown: Sequence[tuple[Path, int | None]]) -> list[Pixels]:
        """Return the patches of images, each with the seed of its view or None."""
        # A random view comes but once, so only plain images are worth remembering.
        found = {key: self._pixels.get(key[0]) for key in shown if key[1] is None}
        new = [key for key in dict.fromkeys(shown) if found.get(key) is None]
        # Together, since what the image processor does around an image takes as long as the image.
        images = [self._open(path, view) for path, view in new]
        for key, entry in zip(new, self._patches(images, [path for path, _ in new]), strict=True):
            found[key] = entry
            if key[1] is None:
                self._pixels.put(key[0], entry, entry[0].nbytes)
        return [entry for entry in (found[key] for key in shown) if entry is not None]

    def _open(self, path: Path, view: int | None) -> Image.Image:
        encoded = self._files.get(path)
        if encoded is None:
            encoded = _read_image(path)
            self._files.put(path, encoded, len(encoded))
        image = _decode_image(encoded, path)
        return _on_white(image) if view is None else random_view(image, view)

    def _patches(self, images: Sequence[Image.Image], paths: Sequence[Path]) -> list[Pixels]:
        if not images:
            return []
        try:
            out = self.image_processor(images=list(images), return_tensors="np")
        except ValueError as error:  # sides in a ratio of more than 200, for one
            if len(images) == 1:
                raise DataError(
                    f"The image {paths[0]} cannot be used.", cause=str(error)
                ) from error
            # Which one it is shows when each comes alone.
            pairs = zip(images, paths, strict=True)
            return [entry for image, path in pairs for entry in self._patches([image], [path])]
        grids = [tuple(int(n) for n in grid) for grid in out["image_grid_thw"]]
        ends = np.cumsum([int(np.prod(grid)) for grid in grids])
        rows = np.split(np.asarray(out["pixel_values"], dtype=np.float32), ends[:-1])
        # Each a copy of its own: a view would keep all the others in memory.
        return [(own.copy(), grid) for own, grid in zip(rows, grids, strict=True)]


def _read_image(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"The image {path} is missing.", hint="Check the paths in the data set's jsonl files."
        ) from error
    except OSError as error:
        raise DataError(f"The image {path} cannot be read.", cause=str(error)) from error


def _decode_image(encoded: bytes, path: Path) -> Image.Image:
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.convert("RGBA" if image.mode in ("RGBA", "LA", "PA", "P") else "RGB")
    except _UNDECODABLE as error:
        raise DataError(f"The image {path} cannot be decoded.", cause=str(error)) from error


def _on_white(image: Image.Image) -> Image.Image:
    # Transparent pixels hide arbitrary colours.
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
