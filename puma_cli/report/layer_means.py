"""Similarity between layers as means over the groups of inputs that it was measured on."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.profiling.profile import LayerProfile
from puma_cli.profiling.similarity.measures import LayerSimilarity

# In the order of the figures, with the words for them.
PLACES = {"embed": "embed token", "tokens": "sampled tokens"}


def groups_at(profile: LayerProfile, place: str) -> tuple[LayerSimilarity, ...]:
    """Return what was measured at `embed` or `tokens`, one entry for each side and modality."""
    return tuple(entry for entry in profile.similarity if entry.place == place)


def mean_over(entries: Sequence[LayerSimilarity], values: Sequence[float | None]) -> float | None:
    """Return the mean of one value for each entry, weighted by rows; None if one is unknown."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    counts = [entry.count for entry in entries]
    return sum(value * count for value, count in zip(known, counts, strict=True)) / sum(counts)


def mean_angles(profile: LayerProfile) -> list[list[float]]:
    """Return the mean angular distance at the embed token over each block of layers.

    Returns:
        row l = 0 to L - 1 with the blocks of n = 1 to L - l layers from layer l, in [0, 1].
    """
    return [
        [
            profile.over_inputs([entry.angular_grid[start][place] for entry in profile.at_embed])
            for place in range(profile.depth - start)
        ]
        for start in range(profile.depth)
    ]


def mean_cka(profile: LayerProfile, place: str) -> list[list[float | None]] | None:
    """Return the plain mean over groups of CKA between all depths, (L + 1, L + 1).

    A cell is None where a group has a constant depth; the whole is, where nothing was measured. The
    groups kept about the same number of rows for it, whatever else they hold.
    """
    known = [entry.cka for entry in groups_at(profile, place) if entry.cka is not None]
    if not known:
        return None
    depths = range(profile.depth + 1)
    return [
        [_plain_mean([cka[row][column] for cka in known]) for column in depths] for row in depths
    ]


def was_trimmed(profile: LayerProfile) -> bool:
    """Tell whether dimensions were left out of the trimmed cosine, which else is the plain one."""
    return any(entry.trimmed != entry.cosine for entry in profile.similarity)


def _plain_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
