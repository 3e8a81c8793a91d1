"""From a way to cut to the decoder layers that stay."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from puma_cli.config.layers import first_layers, keep_last_layers, parse_layers
from puma_cli.errors import ConfigError
from puma_cli.profiling.profile import LayerProfile

BY_PROFILE = ("influence", "cka")


def needs_profile(cut: str) -> bool:
    """Tell whether a cut is chosen by an analysis of the model."""
    return cut.partition(" ")[0] in BY_PROFILE


def layers_of(cut: str, depth: int, profile: LayerProfile | None = None) -> tuple[int, ...]:
    """Return the layers that a cut keeps, ascending.

    Args:
        cut: see `grid.Run`.
        depth: the model's number of layers L.
        profile: what `influence` and `cka` go by.

    Raises:
        ConfigError: the cut keeps more layers than there are, or its profile lacks CKA.
    """
    way, _, what = cut.partition(" ")
    if way == "whole":
        return tuple(range(depth))
    if way == "layers":
        return parse_layers(what)
    k = int(what)
    if k > depth:
        raise ConfigError(f"The cut `{cut}` keeps more than the model's {depth} layers.")
    if way == "first":
        return first_layers(k, depth)
    if way == "keep-last":
        return keep_last_layers(k, depth)
    if way == "even":
        return evenly(k, depth)
    assert profile is not None
    if way == "influence":
        return most_influential([profile.block_influence(i) for i in range(depth)], k)
    return most_similar_out(mean_cka(profile), k)


def evenly(k: int, depth: int) -> tuple[int, ...]:
    """Return k layers at even distances, the first and the last among them."""
    if k == 1:
        return (0,)
    return tuple(round(i * (depth - 1) / (k - 1)) for i in range(k))


def most_influential(influence: Sequence[float], k: int) -> tuple[int, ...]:
    """Return the k layers that change the residual stream most (arXiv 2403.03853)."""
    order = sorted(range(len(influence)), key=lambda layer: (-influence[layer], layer))
    return tuple(sorted(order[:k]))


def most_similar_out(cka: Sequence[Sequence[float]], k: int) -> tuple[int, ...]:
    """Return what is left after the block of L - k layers whose ends are most alike by CKA.

    Layer 0 stays: before it, the embed token's state is the same for every input.

    Args:
        cka: (L + 1, L + 1) between the states after each number of layers.
    """
    depth = len(cka) - 1
    gone = depth - k
    start = max(range(1, k + 1), key=lambda first: (cka[first][first + gone], -first))
    return tuple(layer for layer in range(depth) if not start <= layer < start + gone)


def mean_cka(profile: LayerProfile) -> list[list[float]]:
    """Return CKA over all inputs at the embed token; 0 where it is not known.

    Raises:
        ConfigError: the analysis has measured none.
    """
    tables = [entry.cka for entry in profile.at_embed if entry.cka is not None]
    if not tables:
        raise ConfigError(
            f"The profile {profile.folder} has no CKA.",
            hint="Analyze the model again, with --tokens.",
        )
    size = profile.depth + 1
    found = [[0.0] * size for _ in range(size)]
    for i, j in itertools.product(range(size), repeat=2):
        known = [value for table in tables if (value := table[i][j]) is not None]
        found[i][j] = statistics.fmean(known) if known else 0.0
    return found
