"""Rows in, vectors out, a block at a time: what one process does, or one of many workers."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from puma_cli.embedding.rows import Broken, Item, Row
from puma_cli.embedding.sources import SKIP_HINT
from puma_cli.encoding.finite import check_finite
from puma_cli.encoding.out_of_memory import out_of_memory_explained
from puma_cli.errors import ConfigError, DataError, ImageError
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.opening import load

QUERY = "query"


@dataclass(frozen=True)
class EmbeddedRows:
    """A block of rows with their vectors.

    Args:
        rows: what could be read, in order.
        vectors: of unit length, fp32 on the CPU (N, D).
        broken: what could not.
        cut: texts that were longer than the model takes, and were cut.
    """

    rows: list[Row]
    vectors: Tensor
    broken: list[Broken]
    cut: int


@dataclass
class RowEmbedder:
    """A model that embeds blocks of rows; the same block always has the same vectors.

    Args:
        embedder: the open model.
        side: `document` or `query`; of queries, those without an instruction get the model's own.
        instruction: what is asked of all rows that do not say themselves, or None.
        dimensions: keep the first so many components, renormalised, or None for all.
        skip_broken: give rows that cannot be read as broken, instead of raising why.
        batch_size: most rows at once.
        batch_tokens: most tokens at once, or None for what suits the device.
        image_workers: processes that decode images ahead, or `AUTO`.
        hint: the next step where an image cannot be read.
    """

    embedder: Embedder
    side: str = "document"
    instruction: str | None = None
    dimensions: int | None = None
    skip_broken: bool = False
    batch_size: int = 1_024
    batch_tokens: int | None = None
    image_workers: int = -1
    hint: str = SKIP_HINT

    def __post_init__(self) -> None:
        check_dimensions(self.dimensions, self.embedder.dimension)
        self.embedder.processor.images.stands_in = self.skip_broken

    def __call__(self, items: Sequence[Item]) -> EmbeddedRows:
        """Return the vectors of a block of rows.

        Raises:
            DataError: a row cannot be read, unless such rows are skipped.
            DeviceError: the device runs out of memory.
            NumericError: a vector is not finite.
        """
        steps = self.steps(items)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                found: EmbeddedRows = stop.value
                return found

    @torch.no_grad()
    def steps(self, items: Sequence[Item]) -> Generator[int, None, EmbeddedRows]:
        """Embed a block of rows, yielding how many after each batch; return what `__call__` does.

        Raises:
            DataError, DeviceError, NumericError: see `__call__`.
        """
        broken = [item for item in items if isinstance(item, Broken)]
        if broken:
            yield len(broken)
        rows = [item for item in items if isinstance(item, Row)]
        inputs = [self.to_input(row) for row in rows]
        vectors = torch.zeros(len(rows), self.dimension)
        images = [entry.image for entry in inputs if entry.image is not None]
        embedder = self.embedder
        with (
            evaluation_mode(embedder.model),
            out_of_memory_explained(self.batch_size),
            embedder.images_ahead(self.image_workers, images),
            _explained(self.hint),
        ):
            for places, batch in embedder.batches(
                inputs, self.batch_size, tokens=self.batch_tokens
            ):
                found = embedder.embed(batch).float()
                check_finite("model's", found)
                vectors[places] = normalize(found[:, : self.dimension], dim=-1).cpu()
                yield len(places)
        unreadable = embedder.processor.images.unreadable
        lost = [place for place, row in enumerate(rows) if row.image in unreadable]
        if lost:
            broken += [_unreadable(rows[place], unreadable) for place in lost]
            left = sorted(set(range(len(rows))).difference(lost))
            rows, vectors = [rows[place] for place in left], vectors[left]
        cut = sum(embedder.processor.cuts(row.text) for row in rows if row.text)
        return EmbeddedRows(rows, vectors, broken, cut)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.dimensions or self.embedder.dimension

    def to_input(self, row: Row) -> Input:
        """Return a row as the model takes it."""
        instruction = row.instruction if self.side == QUERY else None
        if instruction is None:
            instruction = self.instruction
        if instruction is None and self.side == QUERY:
            instruction = self.embedder.settings.query_instruction
        return Input(row.text, row.image, instruction or None)


def check_dimensions(asked: int | None, there: int) -> None:
    """Raise ConfigError if a model has fewer dimensions than are to be kept."""
    if asked is not None and asked > there:
        raise ConfigError(
            f"dimensions = {asked} is not possible: the model's vectors have {there}.",
            hint=f"Choose 1 to {there}.",
        )


def open_row_embedder(
    folder: Path, device: str, dtype: str, attention: str, **settings: object
) -> RowEmbedder:
    """Open a checkpoint to embed rows.

    Args:
        settings: those of `RowEmbedder`.

    Raises:
        CheckpointError, ConfigError: see `load`.
    """
    embedder = load(folder, device, dtype, attention=attention)
    return RowEmbedder(embedder, **settings)  # type: ignore[arg-type]


@contextmanager
def _explained(hint: str) -> Iterator[None]:
    """Give the next step where an image cannot be read."""
    try:
        yield
    except ImageError as error:
        error.hint = hint
        raise


def _unreadable(row: Row, unreadable: dict[Path, DataError]) -> Broken:
    assert row.image is not None
    return Broken(str(row.image), unreadable[row.image])
