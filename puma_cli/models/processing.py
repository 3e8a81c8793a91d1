"""From inputs to tensors: the prompt, the tokens, the pixels and the M-RoPE positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from puma_cli.errors import DataError
from puma_cli.models.batch_plan import InputSize
from puma_cli.models.embedder_settings import LAST, MEAN, SYSTEM, EmbedderSettings
from puma_cli.models.image_reader import ImageReader
from puma_cli.models.inputs import Input
from puma_cli.models.pooling import read_places
from puma_cli.models.prompt import IMAGE_TOKEN
from puma_cli.models.recently_used import RecentlyUsed

POSITION_CACHE_ENTRIES = 10_000
# Tokens of prompts that are remembered: what is sized before it is collated is read but once.
PROMPT_CACHE_TOKENS = 2_000_000
# How many times as many characters as its tokens may hold are read of a long text: a character may
# be written as several, and what is cut off must not change the tokens before it.
_SPARE = 4


@dataclass
class Batch:
    """Tensors of B inputs, right-padded to T tokens.

    Args:
        input_ids: token ids (B, T).
        attention_mask: 1 for real tokens (B, T).
        position_ids: M-RoPE positions (3, B, T); padding does not count.
        token_types: 1 at image tokens (B, T).
        last: index of the last real token of each row (B,).
        pixel_values: flattened patches of all images (P, C), or None.
        image_grid: patches in time, height and width of each image (I, 3), or None.
        images: the file of each image that is shown as it is, None of a random view (I).
        read: index of the token of each row whose state is the embedding (B,); by default `last`.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    token_types: torch.Tensor
    last: torch.Tensor
    pixel_values: torch.Tensor | None = None
    image_grid: torch.Tensor | None = None
    images: tuple[Path | None, ...] = ()
    read: torch.Tensor | None = None

    @property
    def places(self) -> torch.Tensor:
        """Index of the token of each row that is read (B,)."""
        return self.last if self.read is None else self.read

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
        image_processor: an image processor of Qwen2-VL, or None for a model of text alone.
        settings: prompt and limits.
        positions: the model's own `get_rope_index`, or None for a model of text alone.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_processor: Any,
        settings: EmbedderSettings,
        positions: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.settings = settings
        self._positions = positions
        vocabulary = tokenizer.get_vocab()
        # A model of text alone may have no such token: no id is -1.
        self._image_token_id = int(vocabulary.get(IMAGE_TOKEN, -1))
        self._embed_token_id = vocabulary.get(settings.embed_token)
        self._pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)
        self._longest = max((len(token) for token in vocabulary), default=1)
        self._specials = sorted(
            {str(token) for token in tokenizer.get_added_vocab()}, key=len, reverse=True
        )
        self.images = ImageReader(image_processor)
        self._layouts: RecentlyUsed[torch.Tensor] = RecentlyUsed(POSITION_CACHE_ENTRIES)
        self._prompts: RecentlyUsed[np.ndarray] = RecentlyUsed(PROMPT_CACHE_TOKENS)
        self._turn = Lock()

    def render(self, inputs: Sequence[Input]) -> list[str]:
        """Return the prompt of each input, with one image token an image."""
        messages = [self._messages(entry) for entry in inputs]
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

    def sizes(self, inputs: Sequence[Input]) -> list[InputSize]:
        """Return what each input takes, from its text and its image's header alone.

        Raises:
            DataError: an image is missing or cannot be read.
        """
        patch, merge = 1, 1
        if self.image_processor is not None:
            patch, merge = self.image_processor.patch_size, self.image_processor.merge_size
        with self._turn:
            self._check_images(inputs)
            rows = self._prompt_ids(inputs)
            patches = [0 if e.image is None else self.images.patches_of(e.image) for e in inputs]
        return [
            # The prompt has one token for the image, in place of its own.
            InputSize(len(row) + max(0, count // merge**2 - 1), count * patch**2)
            for row, count in zip(rows, patches, strict=True)
        ]

    def cuts(self, text: str) -> bool:
        """Tell whether a text is longer than the model takes, so that its end is left out."""
        with self._turn:
            plain = self._plain(text)
            return len(self._cut(plain)) < len(plain)

    def _check_images(self, inputs: Sequence[Input]) -> None:
        for entry in inputs if self.image_processor is None else ():
            if entry.image is not None:
                raise DataError(
                    f"The image {entry.image} cannot be embedded.",
                    cause="The model embeds texts alone.",
                    hint="Take a model that sees images, or data without them.",
                )

    def _collate(self, inputs: Sequence[Input]) -> Batch:
        self._check_images(inputs)
        pixels = self.images.pixels_of([(e.image, e.view) for e in inputs if e.image is not None])
        grids = [grid for _, grid in pixels]
        rows = self._token_ids(inputs, iter(grids))
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max())
        padded = np.full((len(rows), width), self._pad_id, dtype=np.int64)
        for index, row in enumerate(rows):
            padded[index, : len(row)] = row
        ids = torch.from_numpy(padded)
        mask = (torch.arange(width) < lengths[:, None]).long()
        types = ((ids == self._image_token_id) & (mask == 1)).int()
        positions = torch.zeros(3, len(rows), width, dtype=torch.long)
        pooling, embed_id = self.settings.pooling, self._embed_token_id
        remaining = iter(grids)
        for index, (row, entry) in enumerate(zip(rows, inputs, strict=True)):
            grid = next(remaining) if entry.image is not None else None
            positions[:, index, : len(row)] = self._positions_of(types[index, : len(row)], grid)
        return Batch(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            token_types=types,
            last=lengths - 1,
            read=None if pooling in (LAST, MEAN) else read_places(ids, mask, pooling, embed_id),
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

    def _messages(self, entry: Input) -> list[dict[str, Any]]:
        """Return what the template is given: a user's turn, and the system's before it if any."""
        settings = self.settings
        instruction = entry.instruction or settings.default_instruction
        above = settings.instruction == SYSTEM
        texts = (entry.text,) if above else (instruction, entry.text)
        lines = [self._cut(self._plain(line)) for line in texts if line]
        parts = [{"type": "image"}] if entry.image is not None else []
        if lines:
            parts.append({"type": "text", "text": "\n".join(lines)})
        messages = [{"role": "user", "content": parts}]
        if above and instruction:
            said = self._cut(self._plain(instruction))
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": said}]})
        return messages

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
        # Of millions of characters, only the first can be among the tokens that are kept.
        text = text[: _SPARE * limit * self._longest]
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return text if len(offsets) <= limit else text[: offsets[limit][0]]

    def _token_ids(self, inputs: Sequence[Input], grids: Iterator[Any]) -> list[np.ndarray]:
        """Return the ids of each prompt, with as many image tokens as its image has."""
        expanded = []
        for entry, row in zip(inputs, self._prompt_ids(inputs), strict=True):
            if entry.image is not None:
                count = int(np.prod(next(grids))) // self.image_processor.merge_size**2
                row = np.repeat(row, np.where(row == self._image_token_id, count, 1))
            expanded.append(row)
        return expanded

    def _prompt_ids(self, inputs: Sequence[Input]) -> list[np.ndarray]:
        """Return the ids of each prompt, an image being one of them."""
        keys = [(entry.text, entry.instruction, entry.image is None) for entry in inputs]
        found = {key: self._prompts.get(key) for key in keys}
        new = {key: entry for key, entry in zip(keys, inputs, strict=True) if found[key] is None}
        if new:
            prompts = self.render(list(new.values()))
            rows = self.tokenizer(prompts, add_special_tokens=False)["input_ids"]
            for key, row in zip(new, rows, strict=True):
                if not row:
                    raise DataError(
                        "An input has no token.",
                        cause="Its text is empty, and the model's prompt adds nothing to it.",
                    )
                ids = found[key] = np.array(row, dtype=np.int32)
                self._prompts.put(key, ids, len(row))
        return [row for row in (found[key] for key in keys) if row is not None]

    def _positions_of(self, types: torch.Tensor, grid: tuple[int, ...] | None) -> torch.Tensor:
        if grid is None:
            return torch.arange(len(types)).expand(3, -1)
        first = int(types.argmax())
        key = (len(types), first, grid)
        positions = self._layouts.get(key)
        if positions is None:
            assert self._positions is not None
            # The stock function walks token by token in Python: worth remembering per layout.
            positions = self._positions(
                input_ids=torch.zeros(1, len(types), dtype=torch.long),
                mm_token_type_ids=types[None],
                image_grid_thw=torch.tensor([grid]),
            )[0][:, 0]
            self._layouts.put(key, positions, 1)
        return positions
