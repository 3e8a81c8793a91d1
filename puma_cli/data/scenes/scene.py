"""A scene as symbols: two things, how they are arranged, and what they stand on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from puma_cli.data.scenes.vocabulary import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, SIZES


class Thing(NamedTuple):
    """One object of a scene."""

    colour: str
    shape: str
    size: str

    @property
    def kind(self) -> tuple[str, str]:
        """Colour and shape, which name a thing uniquely within its scene."""
        return self.colour, self.shape


class Scene(NamedTuple):
    """Two different things, `first` left of or above `second`.

    Right of and below are the same with the things exchanged, so each scene has one form only.
    """

    first: Thing
    second: Thing
    relation: str
    background: str

    @property
    def things(self) -> tuple[Thing, Thing]:
        """Both things, the left or upper one first."""
        return self.first, self.second

    @property
    def is_valid(self) -> bool:
        """Whether the two things differ in colour or shape."""
        return self.first.kind != self.second.kind

    def with_thing(self, thing: Thing, changed: Thing) -> Scene:
        """Return the scene with `changed` in the place of `thing`."""
        if thing == self.first:
            return self._replace(first=changed)
        return self._replace(second=changed)

    def reversed(self) -> Scene:
        """The same things with their places exchanged."""
        return self._replace(first=self.second, second=self.first)


def all_scenes() -> Iterator[Scene]:
    """Yield every valid scene once, in a fixed order."""
    things = [Thing(*parts) for parts in product(COLOURS, SHAPES, SIZES)]
    for first, second in product(things, things):
        if first.kind != second.kind:
            for relation, background in product(RELATIONS, BACKGROUNDS):
                yield Scene(first, second, relation, background)


class Wish(NamedTuple):
    """What a text query says of a scene; what it leaves out, any scene may have."""

    scene: Scene
    sizes: bool = True
    background: bool = True

    @property
    def is_full(self) -> bool:
        """Whether the wish fits one scene only."""
        return self.sizes and self.background

    def key(self, scene: Scene) -> Scene:
        """Blank in `scene` what the wish leaves out; equal keys satisfy the same wish."""
        first, second, relation, background = scene
        if not self.sizes:
            first, second = first._replace(size=""), second._replace(size="")
        return Scene(first, second, relation, background if self.background else "")

    def is_satisfied_by(self, scene: Scene) -> bool:
        """Whether `scene` is as the wish says."""
        if self.is_full:
            return scene == self.scene
        return self.key(scene) == self.key(self.scene)
