"""The words for scenes and changes; short, because every token costs."""

from __future__ import annotations

from random import Random

from puma_cli.data.scenes.changes import Change
from puma_cli.data.scenes.scene import Scene, Thing, Wish

# By relation: "A left of B" seen from either thing, then the two places named.
_SENTENCES: dict[str, tuple[str, ...]] = {
    "left": ("{a} left of {b}", "{b} right of {a}", "{a} left, {b} right", "{b} right, {a} left"),
    "above": ("{a} above {b}", "{b} below {a}", "{a} top, {b} bottom", "{b} bottom, {a} top"),
}
_GROUNDS = ("{sentence} on {ground}", "on {ground}: {sentence}")
PHRASINGS = len(_SENTENCES["left"]) * len(_GROUNDS)


def describe(wish: Wish, phrasing: int) -> str:
    """Say what `wish` says of its scene, in one of `PHRASINGS` ways (0 to PHRASINGS - 1)."""
    scene = wish.scene
    sentences = _SENTENCES[scene.relation]
    sentence = sentences[phrasing % len(sentences)].format(
        a=_name(scene.first, wish.sizes), b=_name(scene.second, wish.sizes)
    )
    if not wish.background:
        return sentence
    ground = _GROUNDS[phrasing // len(sentences)]
    return ground.format(sentence=sentence, ground=scene.background)


def _name(thing: Thing, with_size: bool) -> str:
    return " ".join((thing.size, *thing.kind) if with_size else thing.kind)


def say_ground(scene: Scene) -> str:
    """The text of an image+text candidate, whose picture does not show the background."""
    return f"on a {scene.background} background"


_ORDERS: dict[str, tuple[str, ...]] = {
    "colour": ("make the {it} {value}", "paint the {it} {value}"),
    "shape": ("make the {it} a {value}", "turn the {it} into a {value}"),
    "size": ("make the {it} {value}", "the {it} should be {value}"),
    "background": ("put it on a {value} background", "make the background {value}"),
    "swap": ("swap the two objects", "exchange their places"),
    "move": ("move the {it} {value} the {other}", "put the {it} {value} the {other}"),
}
_PLACES = {"left": "left of", "right": "right of", "above": "above", "below": "below"}


def ask(change: Change, source: Scene, rng: Random) -> str:
    """Ask for `change` in a picture of `source`, naming its things without ambiguity."""
    order = rng.choice(_ORDERS[change.kind])
    if not change.thing:
        return order.format(value=change.value)
    first, second = source.things
    subject, other = (first, second) if first.kind == change.thing else (second, first)
    value = _PLACES[change.value] if change.kind == "move" else change.value
    it, rest = _point_at(subject, other, rng), _point_at(other, subject, rng)
    return order.format(it=it, value=value, other=rest)


def _point_at(thing: Thing, other: Thing, rng: Random) -> str:
    names = [f"{thing.colour} {thing.shape}"]
    if thing.shape != other.shape:
        names.append(thing.shape)
    return rng.choice(names)
