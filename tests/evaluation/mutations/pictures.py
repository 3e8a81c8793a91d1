"""Broken and unusual images."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.evaluation.mutations.base import MBEIR
from tests.evaluation.mutations.classes import mutation


def _some(root: Path, random: Random) -> Path:
    return random.choice(sorted((root / MBEIR).rglob("*.png")))


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@mutation("truncated images")
def truncated(root: Path, random: Random) -> Path:
    path = _some(root, random)
    kind = random.choice(("PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "PCX", "TGA"))
    options = {"lossless": True} if kind == "WEBP" else {}
    whole = _saved(Image.open(path).convert("RGB"), kind, **options)
    cut = random.choice((random.randrange(1, len(whole)), random.randrange(1, 40)))
    path.write_bytes(whole[:-cut])
    return root / MBEIR


def _png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@mutation("bombs of pixels")
def bombs(root: Path, random: Random) -> Path:
    side = random.choice((14_000, 30_000, 65_535, 10**6, 2**31 - 1))
    other = random.choice((side, side // 3, 14_000))
    content = _png(side, other, bytes(random.randrange(4096)))
    if random.random() < 0.3:
        content = b"P6\n%d %d\n255\n" % (side, other) + bytes(100)
    _some(root, random).write_bytes(content)
    return root / MBEIR


@mutation("CMYK and other modes")
def modes(root: Path, random: Random) -> Path:
    path = _some(root, random)
    image = Image.open(path).convert("RGB")
    way = random.randrange(8)
    if way == 0:
        content = _saved(image.convert("CMYK"), "TIFF")
    elif way == 1:
        content = _saved(image.convert("1"), random.choice(("PNG", "TIFF", "BMP", "PPM")))
    elif way == 2:
        content = _saved(image.convert("L"), random.choice(("PNG", "TIFF", "BMP", "GIF")))
    elif way == 3:
        content = _saved(image.convert("RGBA"), random.choice(("PNG", "TIFF", "WEBP")), lossless=1)
    elif way == 4:
        content = _saved(image.convert("P"), random.choice(("PNG", "GIF", "BMP")))
    elif way == 5:
        content = _saved(image.convert("LA"), "PNG")
    elif way == 6:
        greys = np.asarray(image.convert("L")).astype(np.uint16) * 257
        content = _saved(Image.fromarray(greys), random.choice(("PNG", "TIFF", "PPM")))
    else:
        greys = np.asarray(image.convert("L")).astype(np.float32)
        content = _saved(Image.fromarray(greys), "TIFF")
    path.write_bytes(content)
    return root / MBEIR


@mutation("animated images")
def animated(root: Path, random: Random) -> Path:
    path = _some(root, random)
    first = Image.open(path).convert("RGB")
    others = [Image.new("RGB", first.size, (n, n, n)) for n in range(random.randrange(1, 5))]
    kind = random.choice(("GIF", "PNG", "WEBP", "TIFF"))
    options: dict[str, object] = {"save_all": True, "append_images": others}
    if kind == "WEBP":
        options["lossless"] = True
    path.write_bytes(_saved(first, kind, **options))
    return root / MBEIR


@mutation("zero-sized and other images")
def no_images(root: Path, random: Random) -> Path:
    path = _some(root, random)
    way = random.randrange(8)
    if way == 0:
        path.write_bytes(b"")
    elif way == 1:
        path.write_bytes(_png(random.choice((0, 40)), 0, b""))
    elif way == 2:
        path.unlink()
    elif way == 3:
        path.unlink()
        path.mkdir()
    elif way == 4:
        path.write_bytes(random.randbytes(random.randrange(1, 3000)))
    elif way == 5:
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    elif way == 6:
        path.write_bytes(_saved(Image.new("RGB", (201 * random.randrange(1, 9), 1)), "PNG"))
    else:
        content = bytearray(path.read_bytes())
        content[random.randrange(8, 60)] ^= 1 << random.randrange(8)
        path.write_bytes(bytes(content))
    return root / MBEIR
