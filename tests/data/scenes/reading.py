"""Reads the texts of a data set back into symbols, independently of how they were written."""

from __future__ import annotations

import re

from puma_cli.data.scenes.scene import Scene, Thing

# Pattern, relation, and whether the second thing named is the left or upper one.
_SENTENCES = (
    (r"(.+) left of (.+)", "left", False),
    (r"(.+) right of (.+)", "left", True),
    (r"(.+) left, (.+) right", "left", False),
    (r"(.+) right, (.+) left", "left", True),
    (r"(.+) above (.+)", "above", False),
    (r"(.+) below (.+)", "above", True),
    (r"(.+) top, (.+) bottom", "above", False),
    (r"(.+) bottom, (.+) top", "above", True),
)


def read_scene(text: str) -> Scene:
    """Read a description; what it leaves out is empty."""
    ground = ""
    if found := re.fullmatch(r"on (\w+): (.+)", text):
        ground, text = found.groups()
    elif found := re.fullmatch(r"(.+) on (\w+)", text):
        text, ground = found.groups()
    for pattern, relation, is_inverse in _SENTENCES:
        if found := re.fullmatch(pattern, text):
            first, second = (_thing(words) for words in found.groups())
            if is_inverse:
                first, second = second, first
            return Scene(first, second, relation, ground)
    raise ValueError(text)


def _thing(words: str) -> Thing:
    *size, colour, shape = words.split()
    return Thing(colour, shape, size[0] if size else "")


def fits(scene: Scene, said: Scene) -> bool:
    """Whether `scene` is as a description with gaps says."""
    pairs = [
        *zip(scene.first, said.first, strict=True),
        *zip(scene.second, said.second, strict=True),
    ]
    pairs += [(scene.relation, said.relation), (scene.background, said.background)]
    return all(wanted in ("", value) for value, wanted in pairs)


def follow(order: str, scene: Scene) -> Scene:
    """Do to `scene` what an edit query says; a thing it names must be the only one so named."""
    if order in ("swap the two objects", "exchange their places"):
        return scene.reversed()
    if found := re.fullmatch(r"put it on a (\w+) background|make the background (\w+)", order):
        return scene._replace(background=found[1] or found[2])
    if found := re.fullmatch(
        r"(?:move|put) the (.+) (left of|right of|above|below) the (.+)", order
    ):
        mover, other = (scene.things[_named(scene, found[group])] for group in (1, 3))
        assert mover != other
        first, second = (mover, other) if found[2] in ("left of", "above") else (other, mover)
        relation = "left" if found[2] in ("left of", "right of") else "above"
        return Scene(first, second, relation, scene.background)
    found = re.fullmatch(
        r"(?:make|paint|turn) the (.+?) (?:into )?(?:a )?(\w+)|the (.+) should be (\w+)", order
    )
    assert found, order
    place = _named(scene, found[1] or found[3])
    value = found[2] or found[4]
    things = list(scene.things)
    if value in ("small", "large"):
        things[place] = things[place]._replace(size=value)
    elif value in ("red", "green", "blue", "yellow", "purple", "orange"):
        things[place] = things[place]._replace(colour=value)
    else:
        things[place] = things[place]._replace(shape=value)
    return scene._replace(first=things[0], second=things[1])


def _named(scene: Scene, name: str) -> int:
    words = set(name.split())
    places = [n for n, thing in enumerate(scene.things) if words <= set(thing.kind)]
    assert len(places) == 1, f"{name!r} names {len(places)} things of {scene}"
    return places[0]


def bag(scene: Scene) -> tuple[tuple[str, ...], ...]:
    """The attributes unbound: which colours, shapes and sizes there are, but not whose they are."""
    unbound = [tuple(sorted(pair)) for pair in zip(scene.first, scene.second, strict=True)]
    return *unbound, (scene.relation,), (scene.background,)


def differences(one: Scene, other: Scene) -> int:
    """Count attributes and relations that differ, under the better matching of the things."""
    grounds = one.background != other.background
    kept, crossed = (
        sum(a != b for a, b in zip((*one.first, *one.second), (*x, *y), strict=True))
        for x, y in (other.things, other.things[::-1])
    )
    # Crossing the things means that they have changed places, in whatever direction.
    return grounds + min(kept + (one.relation != other.relation), crossed + 1)
