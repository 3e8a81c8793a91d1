"""Random views: fixed by their seed, of the same size, on a pale ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from puma_cli.models.augmentation import PALEST_TINT, random_view
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load


def drawing() -> Image.Image:
    """A black bar on a transparent ground."""
    image = Image.new("RGBA", (56, 56), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((10, 24, 45, 32), fill=(0, 0, 0, 255))
    return image


def test_a_view_is_fixed_by_its_seed_and_differs_from_others() -> None:
    views = [np.asarray(random_view(drawing(), seed)) for seed in (1, 1, 2)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_a_view_keeps_the_size_and_the_picture_on_a_pale_ground() -> None:
    for seed in range(20):
        view = random_view(drawing(), seed)
        pixels = np.asarray(view)
        assert view.size == (56, 56)
        assert view.mode == "RGB"
        ground = pixels[0, 0]
        assert ground.min() >= PALEST_TINT
        dark = (pixels.max(axis=2) < 60).sum()
        # The bar has 36 x 9 pixels, scaled to at least 70% a side.
        assert 0.3 * 36 * 9 < dark < 1.1 * 36 * 9


def test_a_view_reaches_the_pixels_and_the_plain_image_stays_plain(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bar.png"
    drawing().save(path)
    embedder = load(tiny_checkpoint, "cpu")

    def pixels(view: int | None) -> torch.Tensor:
        values = embedder.collate([Input(image=path, view=view)]).pixel_values
        assert values is not None
        return values

    plain = pixels(None)
    assert not torch.equal(pixels(3), plain)
    assert torch.equal(pixels(3), pixels(3))
    assert torch.equal(pixels(None), plain)
