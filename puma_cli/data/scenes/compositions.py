"""Which pairs of coloured shapes belong to training, and which are held out."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from itertools import combinations_with_replacement, product

from puma_cli.data.scenes.scene import Scene
from puma_cli.data.scenes.vocabulary import COLOURS, SHAPES

TEST_SHARE = 0.15
VAL_SHARE = 0.10

Group = tuple[tuple[str, str], tuple[str, str]]


def group_of(scene: Scene) -> Group:
    """The two colours and the two shapes, unbound.

    A composition and its twin with the colours exchanged share a group and so a split: neither
    of them was seen when the other is asked for.
    """
    first, second = scene.things
    colours = sorted((first.colour, second.colour))
    shapes = sorted((first.shape, second.shape))
    return (colours[0], colours[1]), (shapes[0], shapes[1])


@cache
def _splits() -> dict[Group, str]:
    colours = combinations_with_replacement(sorted(COLOURS), 2)
    shapes = list(combinations_with_replacement(sorted(SHAPES), 2))
    groups = [g for g in product(colours, shapes) if g[0][0] != g[0][1] or g[1][0] != g[1][1]]
    # Ordered by hash, not by the seed of a data set: what one data set held out, all do,
    # so a model trained on one seed can be tested on another.
    groups.sort(key=lambda group: sha256(repr(group).encode()).digest())
    test_end = round(TEST_SHARE * len(groups))
    val_end = test_end + round(VAL_SHARE * len(groups))
    names = ["test"] * test_end + ["val"] * (val_end - test_end)
    names += ["train"] * (len(groups) - val_end)
    return dict(zip(groups, names, strict=True))


def split_of(scene: Scene) -> str:
    """Tell whether a scene's composition is of "train", "val" or "test"."""
    return _splits()[group_of(scene)]
