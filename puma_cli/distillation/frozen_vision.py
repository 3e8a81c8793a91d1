"""What a frozen vision tower says of the small images that training comes back to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from puma_cli.models.embedder import Embedder
from puma_cli.models.processing import Batch
from puma_cli.models.recently_used import RecentlyUsed
from puma_cli.models.splitting import select_images

# Images whose features are larger are not remembered: too few would fit, and the tower is better
# used on many at once.
LARGEST = 64 << 10
# What is remembered at most, both in bytes.
LIMIT = 256 << 20


class FrozenVision:
    """The features of images, computed once while they are remembered.

    An image is computed alone, so that its features do not hang on the batch it first came in: a
    training that was stopped meets it in another one.

    Args:
        embedder: a model whose vision tower and merger do not train.
        limit: most bytes of features to remember.
    """

    def __init__(self, embedder: Embedder, limit: int = LIMIT) -> None:
        self._embedder = embedder
        self._known: RecentlyUsed[Tensor] = RecentlyUsed(limit)

    @torch.no_grad()
    def features(self, batch: Batch) -> Any:
        """Return what `Embedder.vision_features` gives for the batch, or None without images."""
        if batch.pixel_values is None:
            return None
        if None in batch.images or self._largest(batch) > LARGEST:
            return self._embedder.vision_features(batch)
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        # One entry an image, as the model's own method returns it, whatever its type says.
        found: Any = tuple(self._of(batch, place) for place in range(len(batch.images)))
        return BaseModelOutputWithPooling(pooler_output=found)

    def _of(self, batch: Batch, place: int) -> Tensor:
        known = self._known.get(batch.images[place])
        if known is None:
            chosen = torch.zeros(len(batch.images), dtype=torch.bool)
            chosen[place] = True
            alone = replace(batch, **select_images(batch, chosen))
            (known,) = self._embedder.vision_features(alone).pooler_output
            self._known.put(batch.images[place], known, known.nbytes)
        return known

    def _largest(self, batch: Batch) -> int:
        """Return the bytes of the largest image's features, in float32."""
        assert batch.image_grid is not None
        merged = self._embedder.image_processor.merge_size**2
        return 4 * self._embedder.width * int(batch.image_grid.prod(dim=1).max()) // merged
