"""Families of near twins: the scenes a data set is filled with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from typing import NamedTuple

from puma_cli.data.scenes.changes import count_rebindings, edits_to, rebindings
from puma_cli.data.scenes.compositions import split_of
from puma_cli.data.scenes.scene import Scene, all_scenes
from puma_cli.errors import ConfigError

# A target with fewer rebindings would let a bag of attributes guess it half of the time.
REBINDINGS = 3
# Other scenes one change away from an edit's source: without them the target would stand out as
# the candidate nearest to the source, whatever the text asks.
SIBLINGS = 3
KINDS = ("background", "size", "move", "colour", "shape")


# Near twins; the first is the one the others were made around.
Family = tuple[Scene, ...]


class Target(NamedTuple):
    """A held-out scene that queries ask for.

    Args:
        scene: the scene itself.
        source: one of its neighbours, which the edit queries start from.
    """

    scene: Scene
    source: Scene


class Plan(NamedTuple):
    """Which scenes a data set holds.

    Args:
        train: families of training scenes, no scene in two of them.
        targets: targets by split ("val", "test"), their sources in the pool too.
        pool: the candidates of val and test, unique, in order.
    """

    train: list[Family]
    targets: dict[str, list[Target]]
    pool: list[Scene]


def twins(scene: Scene, rng: Random, allowed: Callable[[Scene], bool]) -> list[Scene]:
    """Draw near twins of `scene`: rebindings of its bag, and one neighbour per kind of change."""
    found = dict.fromkeys(rebindings(scene)[:REBINDINGS])
    edits = edits_to(scene)
    for kind in KINDS:
        choices = [edit.source for edit in edits[kind] if allowed(edit.source)]
        if choices:
            found[rng.choice(choices)] = None
    return list(found)


def make_plan(seed: int, train_scenes: int, test_targets: int, val_targets: int) -> Plan:
    """Choose the scenes of a data set.

    Raises:
        ConfigError: a size is below 1 or asks for more scenes than there are.
    """
    sizes = {"val": val_targets, "test": test_targets}
    rng = Random(f"{seed}:plan")
    train = _train_families(_scenes_of("train"), train_scenes, rng)
    targets: dict[str, list[Target]] = {}
    pool: dict[Scene, None] = {}
    for split, size in sizes.items():
        able = [scene for scene in _scenes_of(split) if count_rebindings(scene) >= REBINDINGS]
        _check_size(f"{split}_targets", size, len(able))
        targets[split] = []
        for scene in rng.sample(able, size):
            family = [scene, *twins(scene, rng, lambda _: True)]
            source = _draw_source(scene, family, rng)
            targets[split].append(Target(scene, source))
            pool.update(dict.fromkeys([*family, *_siblings(source, rng)]))
    # Shuffled, so that the place in the pool says nothing of who is a target.
    shuffled = list(pool)
    rng.shuffle(shuffled)
    return Plan(train, targets, shuffled)


def _scenes_of(split: str) -> list[Scene]:
    return list(_scenes_by_split()[split])


@cache
def _scenes_by_split() -> dict[str, tuple[Scene, ...]]:
    found: dict[str, list[Scene]] = {"train": [], "val": [], "test": []}
    for scene in all_scenes():
        found[split_of(scene)].append(scene)
    return {split: tuple(scenes) for split, scenes in found.items()}


def _draw_source(scene: Scene, family: list[Scene], rng: Random) -> Scene:
    kinds = [
        [edit.source for edit in edits if edit.source in family]
        for edits in edits_to(scene).values()
    ]
    return rng.choice(rng.choice([sources for sources in kinds if sources]))


def _siblings(source: Scene, rng: Random) -> list[Scene]:
    kinds = rng.sample(list(edits_to(source).values()), SIBLINGS)
    return [rng.choice(edits).source for edits in kinds]


def _train_families(scenes: list[Scene], size: int, rng: Random) -> list[Family]:
    _check_size("train_scenes", size, len(scenes))
    rng.shuffle(scenes)
    families: list[Family] = []
    used: set[Scene] = set()
    for centre in scenes:
        if centre in used:
            continue
        drawn = twins(centre, rng, lambda scene: split_of(scene) == "train")
        members = [centre, *(scene for scene in drawn if scene not in used)]
        members = members[: size - len(used)]
        used.update(members)
        families.append(tuple(members))
        if len(used) == size:
            break
    return families


def _check_size(name: str, size: int, most: int) -> None:
    if not 1 <= size <= most:
        raise ConfigError(
            f"{name} is {size}; there can be 1 to {most}.",
            cause="Scenes are never repeated, and compositions are held out.",
            hint=f"Choose {name} between 1 and {most}.",
        )
