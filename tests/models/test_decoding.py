"""Image files as pixels: the same ones however they are stored, or an error."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from puma_cli.errors import ImageError
from puma_cli.models.decoding import decoded, read_encoded, size_of
from puma_cli.models.looking import look_at

HERE = Path("picture")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def dots(seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 2, (30, 41)).astype(np.uint8) * 255
    return Image.fromarray(values)


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(decoded(encoded, HERE).convert("RGB"))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "PPM", "PCX", "TGA"])
@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB"])
def test_pixels_are_the_same_however_they_are_stored(kind: str, mode: str) -> None:
    if (kind, mode) == ("PPM", "P"):
        pytest.skip("there is no such file")
    expected = np.asarray(dots().convert("RGB"))
    assert np.array_equal(pixels(saved(dots().convert(mode), kind)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_shown_as_eight(kind: str) -> None:
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = Image.fromarray(eight.astype(np.uint16) * 257)
    assert np.array_equal(pixels(saved(deep, kind))[..., 1], eight)


def test_numbers_of_no_known_range_are_refused() -> None:
    for values in (np.ones((9, 9), np.float32), np.full((9, 9), 70_000, np.int32)):
        with pytest.raises(ImageError, match="cannot be decoded") as caught:
            decoded(saved(Image.fromarray(values), "TIFF"), HERE)
        assert "no known range" in caught.value.cause
        assert caught.value.path == HERE


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PCX", "TGA"])
def test_a_file_cut_short_is_refused_or_shows_the_same(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    whole = saved(dots().convert("RGB"), kind, **options)
    expected = pixels(whole)
    refused = 0
    for cut in range(1, len(whole), 7):
        try:
            assert np.array_equal(pixels(whole[:-cut]), expected)
        except ImageError:
            refused += 1
    assert refused > 0.9 * (len(whole) // 7)


def test_what_would_start_a_program_is_no_image() -> None:
    with pytest.raises(ImageError, match="cannot be decoded"):
        decoded(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", HERE)


def test_shapes_that_models_refuse_are_refused_by_their_headers(tmp_path: Path) -> None:
    thin = saved(Image.new("RGB", (402, 2)), "PNG")
    with pytest.raises(ImageError, match="cannot be decoded"):
        size_of(thin, HERE)
    assert size_of(saved(Image.new("RGB", (400, 2)), "PNG"), HERE) == (400, 2)
    path = tmp_path / "a.png"
    path.write_bytes(saved(dots(), "PNG")[:-40])
    look_at(path, "headers")
    look_at(tmp_path / "gone.png", "not")
    with pytest.raises(ImageError):
        look_at(path, "decoded")
    with pytest.raises(ImageError, match="is missing"):
        look_at(tmp_path / "gone.png", "headers")
    with pytest.raises(ImageError, match="cannot be read"):
        read_encoded(tmp_path)
