from random import Random

import pytest

from puma_cli.data.scenes.changes import count_rebindings, edits_to, rebindings
from puma_cli.data.scenes.phrasing import ask
from puma_cli.data.scenes.scene import Scene, Thing, all_scenes
from tests.data.scenes.reading import bag, differences, follow

SAMPLE = Random(5).sample(list(all_scenes()), 200)


@pytest.mark.parametrize("target", SAMPLE[:60])
def test_each_edit_changes_one_thing_and_leads_to_its_target(target: Scene) -> None:
    for kind, edits in edits_to(target).items():
        for source, change in edits:
            assert change.kind == kind
            assert source.is_valid
            assert change.apply(source) == target
            assert differences(source, target) == 1


def test_what_an_edit_asks_for_in_words_is_the_target_and_nothing_else() -> None:
    rng = Random(0)
    for target in SAMPLE:
        for edits in edits_to(target).values():
            source, change = rng.choice(edits)
            assert follow(ask(change, source, rng), source) == target


def test_every_kind_of_edit_is_there() -> None:
    for target in SAMPLE:
        edits = edits_to(target)
        assert set(edits) == {"background", "swap", "move", "colour", "shape", "size"}
        assert all(edits.values())


def test_rebindings_are_the_other_scenes_with_the_same_bag() -> None:
    by_bag: dict[object, set[Scene]] = {}
    for scene in all_scenes():
        by_bag.setdefault(bag(scene), set()).add(scene)
    for scene in SAMPLE:
        assert len(rebindings(scene)) == len(set(rebindings(scene))) == count_rebindings(scene)
        assert set(rebindings(scene)) == by_bag[bag(scene)] - {scene}


def test_the_first_rebindings_exchange_places_colours_and_both() -> None:
    scene = Scene(
        Thing("red", "circle", "small"), Thing("blue", "square", "large"), "left", "white"
    )
    exchanged = Scene(
        Thing("blue", "circle", "small"), Thing("red", "square", "large"), "left", "white"
    )
    assert rebindings(scene)[:3] == [scene.reversed(), exchanged, exchanged.reversed()]


def test_things_that_share_a_colour_have_fewer_rebindings() -> None:
    one, other = Thing("red", "circle", "small"), Thing("red", "square", "small")
    scene = Scene(one, other, "left", "white")
    assert rebindings(scene) == [scene.reversed()]
