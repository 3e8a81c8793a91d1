from random import Random

import pytest

from puma_cli.data.scenes.phrasing import PHRASINGS, describe
from puma_cli.data.scenes.scene import Scene, Thing, Wish, all_scenes
from tests.data.scenes.reading import read_scene

SAMPLE = Random(3).sample(list(all_scenes()), 100)


@pytest.mark.parametrize("phrasing", range(PHRASINGS))
def test_every_phrasing_says_the_whole_scene(phrasing: int) -> None:
    for scene in SAMPLE:
        assert read_scene(describe(Wish(scene), phrasing)) == scene


@pytest.mark.parametrize(("sizes", "background"), [(False, True), (True, False), (False, False)])
def test_partial_descriptions_leave_out_what_they_should(sizes: bool, background: bool) -> None:
    for scene in SAMPLE:
        wish = Wish(scene, sizes, background)
        for phrasing in range(PHRASINGS):
            assert read_scene(describe(wish, phrasing)) == wish.key(scene)


def test_phrasings_differ_from_each_other() -> None:
    for scene in SAMPLE:
        assert len({describe(Wish(scene), n) for n in range(PHRASINGS)}) == PHRASINGS


def test_words_are_few() -> None:
    assert max(len(describe(Wish(s), n).split()) for s in SAMPLE for n in range(PHRASINGS)) <= 10


def test_the_examples_read_as_intended() -> None:
    scene = Scene(Thing("red", "circle", "small"), Thing("blue", "square", "large"), "left", "sand")
    assert describe(Wish(scene), 0) == "small red circle left of large blue square on sand"
    assert describe(Wish(scene), 5) == "on sand: large blue square right of small red circle"
    assert describe(Wish(scene, False, False), 3) == "blue square right, red circle left"
