"""Making batches of inputs, of like size and read ahead, for a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from puma_cli.models.batch_plan import plan_batches, windows
from puma_cli.models.image_workers import ImageWorkers, asked_ahead, worker_count
from puma_cli.models.inputs import Input
from puma_cli.models.processing import Batch, Processor
from puma_cli.models.read_ahead import read_ahead
from puma_cli.models.splitting import pass_tokens
from puma_cli.models.token_budget import batch_tokens
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import SILENT, Reporter, by_rows


class Batching(ABC):
    """The part of an embedder that divides inputs into batches."""

    model: Any
    image_processor: Any
    processor: Processor

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """The language model."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    def collate(self, inputs: Sequence[Input]) -> Batch:
        """Turn inputs into a batch on the CPU."""
        return self.processor.collate(inputs)

    def batches(
        self,
        inputs: Sequence[Input],
        batch_size: int = 128,
        reporter: Reporter = SILENT,
        label: str = "encode",
        processes: Processes = ALONE,
        tokens: int | None = None,
    ) -> Iterator[tuple[list[int], Batch]]:
        """Yield `inputs` as batches on the model's device, each with the places of its inputs.

        Of several processes, each gets its share of the batches.

        Args:
            batch_size: most inputs at once (>= 1).
            tokens: most tokens at once, or None for what suits the device.
        """
        plan = self.plan(inputs, batch_size, tokens)
        share = islice(plan, processes.place, None, processes.count)
        total = -(-len(inputs) // processes.count)
        yield from self.collated(share, inputs, reporter, label, total)

    def plan(
        self, inputs: Sequence[Input], batch_size: int = 128, tokens: int | None = None
    ) -> Iterator[list[int]]:
        """Yield batches of inputs of like size, as their places; the largest come first.

        Sizes are read from texts and headers of images, of some thousand inputs at a time.
        """
        for window in windows(inputs):
            yield from self.plan_window(inputs, window, batch_size, tokens)

    def plan_window(
        self,
        inputs: Sequence[Input],
        places: Sequence[int],
        batch_size: int = 128,
        tokens: int | None = None,
    ) -> list[list[int]]:
        """Divide the inputs at some places into batches of like size; the largest come first."""
        sizes = self.processor.sizes([inputs[place] for place in places])
        batches = plan_batches(
            sizes,
            rows=batch_size,
            tokens=tokens or self.batch_tokens(),
            per_pass=pass_tokens(self.decoder.layers[0]),
        )
        return [[places[row] for row in batch] for batch in reversed(batches)]

    @contextmanager
    def images_ahead(
        self, asked: int, images: Sequence[Path], sharing: int = 1
    ) -> Iterator[ImageWorkers | None]:
        """Decode images in processes of their own while the context is open, where that pays.

        Args:
            asked: how many processes, 0 for none, or `AUTO`.
            images: those that will be shown.
            sharing: processes on this machine that share its cores (>= 1).
        """
        count = worker_count(asked, images, sharing)
        shape = self.image_processor
        if not count or shape is None or not shape.do_resize:
            yield None
            return
        workers = ImageWorkers(
            count,
            {
                "factor": shape.patch_size * shape.merge_size,
                "least": shape.size["shortest_edge"],
                "most": shape.size["longest_edge"],
                "resample": int(shape.resample),
            },
        )
        self.processor.images.workers = workers
        try:
            yield workers
        finally:
            self.processor.images.workers = None
            workers.close()

    def batch_tokens(self) -> int:
        """Return how many tokens a batch should have on the model's device."""
        return batch_tokens(self.model, self.device)

    def collated(
        self,
        plan: Iterable[list[int]],
        inputs: Sequence[Input],
        reporter: Reporter = SILENT,
        label: str = "encode",
        total: int | None = None,
    ) -> Iterator[tuple[list[int], Batch]]:
        """Yield the batches of a plan on the model's device, the next one read meanwhile.

        Args:
            plan: places of inputs.
            total: how many inputs it has in all, if it is no sequence.
        """
        if isinstance(plan, Sequence):
            total = sum(map(len, plan))

        def read(chosen: list[int]) -> tuple[list[int], Batch]:
            return chosen, self.collate([inputs[index] for index in chosen])

        asked = asked_ahead(plan, inputs, lambda: self.processor.images.workers, list)
        source = read_ahead(asked, read)
        for chosen, batch in by_rows(reporter, source, label, total, lambda item: len(item[0])):
            yield chosen, batch.to(self.device)
