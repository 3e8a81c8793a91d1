"""One-step changes from a scene to another: neighbours, and what an edit query asks for."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from puma_cli.data.scenes.scene import Scene
from puma_cli.data.scenes.vocabulary import BACKGROUNDS, COLOURS, SHAPES, SIZES


class Change(NamedTuple):
    """One attribute or relation made another.

    Args:
        kind: "colour", "shape", "size", "background", "move" or "swap".
        thing: the (colour, shape) of the thing changed or moved; empty for the whole scene.
        value: the new value; for a move "left", "right", "above" or "below" of the other thing.
    """

    kind: str
    thing: tuple[str, ...] = ()
    value: str = ""

    def apply(self, scene: Scene) -> Scene:
        """Return the scene after the change."""
        if self.kind == "background":
            return scene._replace(background=self.value)
        if self.kind == "swap":
            return scene.reversed()
        subject, other = scene.things if scene.first.kind == self.thing else scene.things[::-1]
        if self.kind == "move":
            leads = self.value in ("left", "above")
            first, second = (subject, other) if leads else (other, subject)
            relation = "left" if self.value in ("left", "right") else "above"
            return Scene(first, second, relation, scene.background)
        changed = subject._replace(**{self.kind: self.value})
        return scene.with_thing(subject, changed)


class Edit(NamedTuple):
    """A source scene and the change that makes it the target."""

    source: Scene
    change: Change


_VALUES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "size": SIZES,
}


def edits_to(target: Scene) -> dict[str, list[Edit]]:
    """List by kind every source from which one change leads to `target`."""
    edits: dict[str, list[Edit]] = {
        "background": [
            Edit(target._replace(background=other), Change("background", (), target.background))
            for other in BACKGROUNDS
            if other != target.background
        ],
        "swap": [Edit(target.reversed(), Change("swap"))],
        "move": _moves_to(target),
    }
    for attribute, values in _VALUES.items():
        edits[attribute] = []
        for thing, value in product(target.things, values):
            before = thing._replace(**{attribute: value})
            source = target.with_thing(thing, before)
            if before != thing and source.is_valid:
                change = Change(attribute, before.kind, getattr(thing, attribute))
                edits[attribute].append(Edit(source, change))
    return edits


def _moves_to(target: Scene) -> list[Edit]:
    turned = target._replace(relation="left" if target.relation == "above" else "above")
    words = ("left", "right") if target.relation == "left" else ("above", "below")
    movers = zip((target.first.kind, target.second.kind), words, strict=True)
    changes = [Change("move", thing, word) for thing, word in movers]
    return [Edit(s, c) for s in (turned, turned.reversed()) for c in changes]


def rebindings(scene: Scene) -> list[Scene]:
    """List the other scenes with the same bag of attributes, in a fixed order.

    Reversed places, exchanged colours and both come first; exchanged sizes follow.
    """
    found: dict[Scene, None] = {}
    for sizes, colours, places in product((False, True), repeat=3):
        first, second = scene.things
        if colours:
            one, other = first.colour, second.colour
            first, second = first._replace(colour=other), second._replace(colour=one)
        if sizes:
            one, other = first.size, second.size
            first, second = first._replace(size=other), second._replace(size=one)
        twin = scene._replace(first=first, second=second)
        if twin.is_valid:
            found[twin.reversed() if places else twin] = None
    found.pop(scene, None)
    return list(found)


def count_rebindings(scene: Scene) -> int:
    """Count the `rebindings` of a scene without making them."""
    # Each attribute that tells the things apart can go to either of them.
    return int(2 ** sum(a != b for a, b in zip(*scene.things, strict=True))) - 1
