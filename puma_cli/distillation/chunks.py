"""Dividing a batch's inputs into chunks that one pass through the network may hold."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.models.processing import InputSize


def plan_chunks(
    sizes: Sequence[InputSize], tokens: int | None, pixels: int | None
) -> list[list[int]]:
    """Return chunks of inputs, as their places, like lengths and kinds together.

    A chunk holds at most `tokens` with its padding and `pixels` of images; an input that alone has
    more is a chunk of its own. None is no bound.
    """
    # Inputs with images apart: beside them, texts would be padded to an image's length.
    order = sorted(range(len(sizes)), key=lambda place: (sizes[place].pixels > 0, sizes[place]))
    chunks: list[list[int]] = []
    longest = shown = 0
    for place in order:
        size = sizes[place]
        rows = len(chunks[-1]) + 1 if chunks else 1
        longest, shown = max(longest, size.tokens), shown + size.pixels
        full = (tokens is not None and rows * longest > tokens) or (
            pixels is not None and shown > pixels
        )
        other_kind = bool(chunks) and (size.pixels > 0) != (sizes[chunks[-1][-1]].pixels > 0)
        if full or other_kind or not chunks:
            chunks.append([])
            longest, shown = size.tokens, size.pixels
        chunks[-1].append(place)
    return chunks
