"""What differs between the architectures that puma embeds with: where parts lie, how images enter.

A family is found by a network's `model_type`; everything else asks it and knows no architecture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from puma_cli.models.family_names import TEXT, VISION_LANGUAGE

if TYPE_CHECKING:
    from puma_cli.models.processing import Batch


class TextFamily:
    """A text-only decoder, such as Qwen2 or Qwen3: the network is the decoder itself."""

    prefix = ""
    """What stands before `layers.` and `embed_tokens.` in the names of weights."""
    sees = False
    """Whether there is a vision tower."""

    def decoder(self, model: Any) -> Any:
        """Return the language model: `layers`, `norm`, `embed_tokens`."""
        return model

    def tower(self, model: Any) -> Any:
        """Return the vision tower, or None."""
        return None

    def rope_index(self, model: Any) -> Any:
        """Return the network's own function of the positions around an image, or None."""
        return None

    def positions(self, batch: Batch) -> Tensor:
        """Return the positions of a batch as the network takes them."""
        return batch.position_ids[0]

    def features(self, model: Any, batch: Batch) -> Any:
        """Return what the tower says of a batch's images, or None without images."""
        return None

    @contextmanager
    def shown(self, model: Any, vision: Any, batch: Batch) -> Iterator[Mapping[str, Any]]:
        """Make a forward pass see features; gives further arguments of it."""
        yield MappingProxyType({})

    def rows(self, vision: Any) -> Sequence[Tensor]:
        """Return all that the tower says of each image, one tensor (T', C) an image."""
        raise NotImplementedError

    def of_rows(self, rows: Iterable[Tensor], width: int) -> Any:
        """Return the rows of images in the form that `features` has.

        Args:
            width: length D of the decoder's states.
        """
        raise NotImplementedError


class Qwen2VlFamily(TextFamily):
    """Qwen2-VL and Qwen2.5-VL: images take the places of image tokens before the first layer."""

    prefix = "language_model."
    sees = True

    def decoder(self, model: Any) -> Any:
        return model.language_model

    def tower(self, model: Any) -> Any:
        return model.visual

    def rope_index(self, model: Any) -> Any:
        return model.get_rope_index

    def positions(self, batch: Batch) -> Tensor:
        return batch.position_ids

    def features(self, model: Any, batch: Batch) -> Any:
        if batch.pixel_values is None:
            return None
        return model.get_image_features(batch.pixel_values, batch.image_grid, return_dict=True)

    @contextmanager
    def shown(self, model: Any, vision: Any, batch: Batch) -> Iterator[Mapping[str, Any]]:
        # Releases of transformers differ in how a model takes what its tower has computed, and
        # those that do not know a way ignore it without a word.
        def put(_: nn.Module, args: object, output: Tensor) -> Tensor:
            rows = torch.cat(tuple(vision.pooler_output)).to(output.device, output.dtype)
            return output.masked_scatter((batch.token_types == 1).unsqueeze(-1), rows)

        if vision is None:
            yield MappingProxyType({})
            return
        hook = model.get_input_embeddings().register_forward_hook(put)
        try:
            yield MappingProxyType({})
        finally:
            hook.remove()

    def rows(self, vision: Any) -> Sequence[Tensor]:
        return tuple(vision.pooler_output)

    def of_rows(self, rows: Iterable[Tensor], width: int) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        # One entry an image, as the model's own method returns it, whatever its type says.
        found: Any = tuple(rows)
        return BaseModelOutputWithPooling(pooler_output=found)


class Qwen3VlFamily(Qwen2VlFamily):
    """Qwen3-VL: features of several depths of the tower also enter after the first layers."""

    @contextmanager
    def shown(self, model: Any, vision: Any, batch: Batch) -> Iterator[Mapping[str, Any]]:
        if vision is None:
            yield MappingProxyType({})
            return
        # Where they enter is the network's own business: it asks its tower, and gets what that
        # said before. The pixels are never looked at.
        model.get_image_features = lambda *_, **__: vision
        nothing = torch.empty(0, device=batch.input_ids.device)
        try:
            yield MappingProxyType(
                {"pixel_values": nothing, "mm_token_type_ids": batch.token_types}
            )
        finally:
            del model.get_image_features

    def rows(self, vision: Any) -> Sequence[Tensor]:
        parts = zip(vision.pooler_output, *vision.deepstack_features, strict=True)
        return tuple(torch.cat(part, dim=-1) for part in parts)

    def of_rows(self, rows: Iterable[Tensor], width: int) -> Any:
        from transformers.models.qwen3_vl.modeling_qwen3_vl import (
            BaseModelOutputWithDeepstackFeatures,
        )

        whole = [part.split(width, dim=-1) for part in rows]
        levels: list[Any] = [tuple(level) for level in zip(*whole, strict=True)]
        return BaseModelOutputWithDeepstackFeatures(
            pooler_output=levels[0], deepstack_features=levels[1:]
        )


_TEXT: Final = TextFamily()
FAMILIES: Final[Mapping[str, TextFamily]] = {
    "qwen2_vl": Qwen2VlFamily(),
    "qwen2_5_vl": Qwen2VlFamily(),
    "qwen3_vl": Qwen3VlFamily(),
    **dict.fromkeys(sorted(TEXT), _TEXT),
}
assert set(FAMILIES) == TEXT | VISION_LANGUAGE


def family_of(model: Any) -> TextFamily:
    """Return the family of a network.

    Raises:
        KeyError: puma does not embed with it.
    """
    return FAMILIES[model.config.model_type]
