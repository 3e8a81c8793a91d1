"""Casting tensors to another dtype on their way from file to file, a few MiB at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from puma_cli.checkpoint.safetensors_header import DTYPE_BITS
from puma_cli.errors import NumericError
from puma_cli.pruning.writing.byte_copy import CHUNK_BYTES, grouped, opened, read_some, write_all

if TYPE_CHECKING:
    import torch

# Per thread, before the cast. Larger ones are no faster, and four threads hold several each.
BUFFER_BYTES = 2 << 20
CASTABLE = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True)
class Cast:
    """Part of a tensor to cast.

    Args:
        name: the tensor, for messages.
        before: its dtype in the file `source`; `after` in the existing file `target`. Both are
            of `CASTABLE`.
        start: offset of the part's first byte in `source`; `place` in `target`.
        size: number of bytes in `source`, a multiple of the width of `before`.
    """

    name: str
    before: str
    after: str
    source: Path
    start: int
    target: Path
    place: int
    size: int

    def split(self, limit: int) -> Iterator[Cast]:
        """Yield the same elements in parts of at most `limit` bytes before the cast (>= 8)."""
        width = DTYPE_BITS[self.before] // 8
        step = limit // width * width
        for done in range(0, self.size, step):
            place = self.place + done // width * (DTYPE_BITS[self.after] // 8)
            size = min(step, self.size - done)
            yield replace(self, start=self.start + done, place=place, size=size)


@dataclass(frozen=True)
class CastJob:
    """Casts parts of tensors between one source and one target file.

    Raises:
        CheckpointError: the source is gone, cannot be read, or ends before a part does.
        NumericError: a finite number would become infinite.
        OSError: the target cannot be written; the disk may be full.
    """

    casts: Sequence[Cast]

    def __call__(self, stop: Event) -> None:
        first = self.casts[0]
        with opened(first.source) as source, first.target.open("r+b", buffering=0) as target:
            for cast in self.casts:
                for part in cast.split(BUFFER_BYTES):
                    if stop.is_set():
                        return
                    _cast_part(source, target, part)


def cast_jobs(casts: Iterable[Cast]) -> list[CastJob]:
    """Return jobs of about `CHUNK_BYTES` that together do `casts`."""
    parts = (part for whole in casts for part in whole.split(CHUNK_BYTES))
    return [CastJob(group) for group in grouped(parts)]


def _cast_part(source: FileIO, target: FileIO, part: Cast) -> None:
    import torch

    raw = bytearray(part.size)
    view = memoryview(raw)
    source.seek(part.start)
    while view:
        view = view[read_some(source, view, part.source) :]
    values = torch.frombuffer(raw, dtype=_torch_dtype(part.before))
    result = values.to(_torch_dtype(part.after))
    lost = result.isinf()
    if lost.any() and (lost & values.isfinite()).any():
        largest = float(values[lost & values.isfinite()].abs().max())
        raise NumericError(
            f"`{part.name}` holds {largest:g}, which {part.after} cannot.",
            cause=f"It is finite in {part.before} and would become infinite.",
            hint="Cast to bfloat16 or float32, or keep the dtype.",
        )
    target.seek(part.place)
    write_all(target, result.view(torch.uint8).numpy().data)


def _torch_dtype(name: str) -> torch.dtype:
    import torch

    dtypes = {"F64": torch.float64, "F32": torch.float32}
    dtypes |= {"F16": torch.float16, "BF16": torch.bfloat16}
    return dtypes[name]
