"""What a frozen vision tower says of the small images that training comes back to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.distillation.shares import deal
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.processing import Batch
from puma_cli.models.read_ahead import read_ahead
from puma_cli.models.splitting import select_images
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import Reporter

# Images whose features are larger are not remembered: too few would fit to come back to.
LARGEST = 64 << 10
# What is remembered at most, both in bytes.
LIMIT = 256 << 20
BATCH = 64


class FrozenVision:
    """The features of a training's images, computed before its first step as far as they fit.

    What is remembered, and in which batches it was computed, is a function of the plan alone: a
    training that was stopped goes on with the same bits.

    Args:
        embedder: a model whose vision tower and merger do not train.
        limit: most bytes of features to remember.
    """

    def __init__(self, embedder: Embedder, limit: int = LIMIT) -> None:
        self._embedder = embedder
        self._limit = limit
        self._known: dict[Path, Tensor] = {}

    @torch.no_grad()
    def fill(self, images: Iterable[Path], reporter: Reporter, stop: StopRequest) -> bool:
        """Remember the first of the images; return False if a signal asked to stop.

        Raises:
            DataError: an image cannot be read.
        """
        room, source = self._limit, iter(images)
        plan = iter(lambda: list(islice(source, BATCH)), [])
        for some, batch in reporter.track(read_ahead(plan, self._collated), "images"):
            # Time that runs out waits for a step: nothing of this is kept for another start.
            if stop.signal is not None:
                return False
            if self._largest(batch) > LARGEST:
                break
            features = self._rows(batch.to(self._embedder.device))
            room -= sum(rows.nbytes for rows in features)
            if room < 0:
                break
            self._known.update(zip(some, features, strict=True))
        return True

    @torch.no_grad()
    def features(self, batch: Batch) -> Any:
        """Return what `Embedder.vision_features` gives for the batch, or None without images."""
        known = [None if image is None else self._known.get(image) for image in batch.images]
        if all(rows is None for rows in known):
            return self._embedder.vision_features(batch)
        new = torch.tensor([rows is None for rows in known])
        rest: Iterator[Tensor] = iter(())
        if new.any():
            others = replace(batch, **select_images(batch, new))
            rest = iter(self._rows(others))
        rows = [next(rest) if rows is None else rows for rows in known]
        return self._embedder.family.of_rows(rows, self._embedder.width)

    def _rows(self, batch: Batch) -> Sequence[Tensor]:
        """Return all that the tower says of each image of a batch (T', C)."""
        return self._embedder.family.rows(self._embedder.vision_features(batch))

    def _collated(self, images: list[Path]) -> tuple[list[Path], Batch]:
        return images, self._embedder.collate([Input(image=image) for image in images])

    def _largest(self, batch: Batch) -> int:
        """Return the bytes of the largest image's features, in float32."""
        assert batch.image_grid is not None
        merged = self._embedder.image_processor.merge_size**2
        return 4 * self._embedder.width * int(batch.image_grid.prod(dim=1).max()) // merged


def planned_images(
    order: BatchOrder, examples: Examples, steps: int, processes: Processes = ALONE
) -> Iterator[Path]:
    """Yield the distinct images that this process will see as they are, in the first epoch.

    What only later epochs bring, at most a batch's worth and other positives, is left out.

    Args:
        steps: batches of the whole training.
    """
    found: set[Path] = set()
    for step in range(min(steps, order.steps_per_epoch)):
        epoch, indices = order.batch(step)
        inputs = examples.batch(indices, epoch).inputs
        for place in deal(inputs, processes.count)[processes.place]:
            entry = inputs[place]
            if entry.image is not None and entry.view is None and entry.image not in found:
                found.add(entry.image)
                yield entry.image
