from io import BytesIO
from itertools import combinations
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from puma_cli.data.scenes.drawing import SIDE, draw
from puma_cli.data.scenes.scene import Scene, Thing
from puma_cli.data.scenes.vocabulary import BACKGROUNDS, COLOURS, NEUTRAL_GROUND, SHAPES

Pixels = NDArray[Any]
SCENE = Scene(Thing("red", "circle", "small"), Thing("blue", "square", "large"), "left", "grey")


def pixels(scene: Scene, seed: int = 0, neutral: bool = False) -> Pixels:
    content = draw(scene, Random(seed), shading=0, neutral=neutral)
    with Image.open(BytesIO(content)) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture).astype(int)


def places(image: Pixels, colour: str) -> tuple[Pixels, ...]:
    """Rows and columns of the pixels that have exactly `colour`."""
    return np.nonzero((image == COLOURS[colour]).all(axis=-1))


def test_the_picture_has_its_size_and_its_background() -> None:
    for name, colour in BACKGROUNDS.items():
        image = pixels(SCENE._replace(background=name))
        assert image.shape == (SIDE, SIDE, 3)
        assert tuple(image[0, 0]) == tuple(image[-1, -1]) == colour


def test_the_neutral_ground_hides_the_background() -> None:
    images = [pixels(SCENE._replace(background=name), neutral=True) for name in BACKGROUNDS]
    assert all((image == images[0]).all() for image in images)
    assert tuple(images[0][0, 0]) == NEUTRAL_GROUND
    assert NEUTRAL_GROUND not in BACKGROUNDS.values()


@pytest.mark.parametrize("seed", range(20))
def test_things_lie_on_their_own_sides_whole(seed: int) -> None:
    for relation, axis in (("left", 1), ("above", 0)):
        image = pixels(SCENE._replace(relation=relation), seed)
        red, blue = places(image, "red")[axis], places(image, "blue")[axis]
        assert red.max() < SIDE / 2 <= blue.min()
        edges = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (edges == BACKGROUNDS["grey"]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_large_is_larger_than_small_however_it_is_drawn(shape: str) -> None:
    widths: dict[str, list[int]] = {"small": [], "large": []}
    for size, found in widths.items():
        scene = SCENE._replace(first=Thing("red", shape, size))
        for seed in range(10):
            columns = np.nonzero(
                (pixels(scene, seed)[:, : SIDE // 2] != BACKGROUNDS["grey"]).any((0, 2))
            )
            found.append(int(np.ptp(columns)) + 1)
    assert max(widths["small"]) <= 14
    assert min(widths["large"]) >= 19


def test_shapes_cover_clearly_different_pixels() -> None:
    masks = {}
    for shape in SHAPES:
        scene = SCENE._replace(first=Thing("red", shape, "small"))
        masks[shape] = (pixels(scene)[:, : SIDE // 2] != BACKGROUNDS["grey"]).any(-1)
    for one, other in combinations(SHAPES, 2):
        union = (masks[one] | masks[other]).sum()
        assert (masks[one] ^ masks[other]).sum() / union > 0.08, (one, other)


def test_no_shading_makes_a_colour_like_another_or_like_a_background() -> None:
    far = 2 * 14
    colours = [*COLOURS.values(), *BACKGROUNDS.values(), NEUTRAL_GROUND]
    for one, other in combinations(colours, 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > far


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others() -> None:
    first = draw(SCENE, Random(1), shading=14)
    assert first == draw(SCENE, Random(1), shading=14)
    assert first != draw(SCENE, Random(2), shading=14)
