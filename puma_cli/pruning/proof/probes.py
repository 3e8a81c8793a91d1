"""Inputs made up from a model's config alone, so that two models can be compared on them.

No processor or tokenizer is needed: any ids are a text, and any pixels are an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from puma_cli.pruning.proof.image_kinds import ImageKind, image_kind, image_token

if TYPE_CHECKING:
    import torch

_TEXT_LENGTH = 24
_WORDS_BEFORE = 3
_WORDS_AFTER = 6
# Marks of where an image begins and ends, by the names that configs give them.
_STARTS = ("vision_start_token_id", "image_start_token_id", "boi_token_id")
_ENDS = ("vision_end_token_id", "image_end_token_id", "eoi_token_id")


@dataclass(frozen=True)
class Probe:
    """One input: its name, and the keyword arguments of a model's forward pass."""

    name: str
    inputs: Mapping[str, torch.Tensor]


def make_probes(config: Any) -> tuple[Probe, ...]:
    """Return a text and, for a model known to read images, an image and an image within a text.

    The same config gives the same probes. Pixels are float32; the caller casts them.

    Args:
        config: a transformers config.
    """
    words = _words(config)
    probes = [Probe("text", _inputs([next(words) for _ in range(_TEXT_LENGTH)]))]
    kind = image_kind(config)
    if kind is not None:
        probes.append(_image_probe("image", config, kind, words, before=0, after=0))
        probes.append(_image_probe("image+text", config, kind, words, _WORDS_BEFORE, _WORDS_AFTER))
    return tuple(probes)


def _image_probe(
    name: str, config: Any, kind: ImageKind, words: Iterator[int], before: int, after: int
) -> Probe:
    import torch

    image = image_token(config)
    ids = [next(words) for _ in range(before)]
    ids += _marks(config, _STARTS) + [image] * kind.tokens(config) + _marks(config, _ENDS)
    ids += [next(words) for _ in range(after)]
    inputs = _inputs(ids)
    generator = torch.Generator().manual_seed(len(ids))
    inputs[kind.pixels_name] = torch.randn(kind.pixels(config), generator=generator)
    for key, value in kind.beside(config, len(ids)).items():
        inputs[key] = torch.tensor(value)
    if kind.types is not None:
        key, at_text, at_image = kind.types
        inputs[key] = torch.where(inputs["input_ids"] == image, at_image, at_text)
    return Probe(name, inputs)


def _inputs(ids: list[int]) -> dict[str, torch.Tensor]:
    import torch

    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
    }


def _marks(config: Any, names: tuple[str, ...]) -> list[int]:
    found = [getattr(config, name, None) for name in names]
    return [int(token) for token in found if token is not None][:1]


def _words(config: Any) -> Iterator[int]:
    """Yield ids of ordinary tokens, from all over the vocabulary, without end."""
    size = int(config.get_text_config(decoder=True).vocab_size)
    special = set(_special_tokens(config.to_dict()))
    # A step near the golden section of the vocabulary: far apart and long without repetition.
    step = max(1, round(size * 0.382)) | 1
    token = step
    while True:
        if token not in special:
            yield token
        token = (token + step) % size


def _special_tokens(config: Any) -> Iterator[int]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _special_tokens(value)
        elif str(key).endswith(("token_id", "token_index")):
            yield from (item for item in (value if isinstance(value, list) else [value]) if item)
