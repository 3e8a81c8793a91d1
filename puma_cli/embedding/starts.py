"""Where an input begins in its file or folder, so that a worker reads what is its own alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from puma_cli.data.lines import LineStart

if TYPE_CHECKING:
    from puma_cli.embedding.sources import Source

# Of lines, bytes and lines before it; of rows, how many are before it; of images, its path. None
# is the first one. What JSON brings back of it is taken as well.
Start = Sequence[int] | int | str | None


@dataclass(frozen=True)
class ShardStart:
    """Where a shard begins.

    Args:
        number: which one, from 0.
        source: which of the sources its first input is in, from 0.
        start: where in it.
    """

    number: int
    source: int
    start: Start


def find_starts(sources: Sequence[Source], size: int) -> tuple[list[ShardStart], int]:
    """Go once through all inputs, as counting does, and note where shards begin.

    Args:
        size: inputs of a shard (>= 1).

    Returns:
        Where each shard begins, and how many inputs there are.
    """
    found, read = [], 0
    for place, source in enumerate(sources):
        for start in source.starts():
            if read % size == 0:
                found.append(ShardStart(read // size, place, start))
            read += 1
    return found, read


def line_start(start: Start) -> LineStart:
    """Return the start of a line as `numbered_lines` takes it."""
    if start is None:
        return 0, 1
    assert isinstance(start, Sequence) and not isinstance(start, str)
    offset, number = start
    return offset, number
