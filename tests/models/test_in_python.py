"""Embedding texts, pictures and dicts, against the same in files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from puma_cli.errors import ConfigError, DataError
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load


@pytest.fixture(scope="module")
def embedder(tiny_checkpoint: Path) -> Embedder:
    return load(tiny_checkpoint, "cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures in several modes and formats."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(1)
    rgb = Image.fromarray(random.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(random.integers(0, 256, (60, 90), dtype=np.uint8)))
    deep = Image.fromarray(random.integers(0, 65_536, (40, 40), dtype=np.uint16))
    pictures = {
        "a.png": rgb,
        "b.jpg": rgb,
        "c.png": alpha,
        "d.png": rgb.convert("P"),
        "e.png": rgb.convert("L"),
        "f.jpg": rgb.convert("CMYK"),
        "g.png": deep,
        "h.gif": rgb.convert("P"),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    return [folder / name for name in pictures]


def test_pictures_in_memory_are_those_in_files(embedder: Embedder, files: list[Path]) -> None:
    expected = embedder.encode([Input(image=file) for file in files])
    for items in ([Image.open(file) for file in files], files):
        found = embedder.encode_documents(items, output="torch")
        assert torch.equal(found, expected)


def test_each_way_to_say_a_thing_is_the_same(embedder: Embedder, files: list[Path]) -> None:
    items: list[Any] = [
        "a red square",
        {"text": "a red square"},
        {"image": Image.open(files[0]), "text": "in green"},
        {"image": str(files[0]), "text": "in green", "instruction": "Another."},
        files[0],
    ]
    asked = [
        Input("a red square", instruction="Find it."),
        Input("a red square", instruction="Find it."),
        Input("in green", files[0], "Find it."),
        Input("in green", files[0], "Another."),
        Input(image=files[0], instruction="Find it."),
    ]
    found = embedder.encode_queries(items, "Find it.")
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    np.testing.assert_array_equal(found, embedder.encode(asked).numpy())
    # What is said for all documents is nothing.
    plain = [replace(each, instruction=None) for each in asked]
    plain[3] = asked[3]
    np.testing.assert_array_equal(embedder.encode_documents(items), embedder.encode(plain).numpy())


def test_the_models_own_instruction_is_for_queries_without_one(tiny_checkpoint: Path) -> None:
    embedder = load(tiny_checkpoint, "cpu")
    embedder.settings = replace(embedder.settings, query_instruction="Find it.")
    plain, asked = (embedder.encode([Input("x", instruction=i)]) for i in (None, "Find it."))
    assert torch.equal(embedder.encode_queries(["x"], output="torch"), asked)
    assert torch.equal(embedder.encode_queries(["x"], "", output="torch"), plain)
    assert torch.equal(embedder.encode_documents(["x"], output="torch"), plain)


def test_nothing_gives_nothing(embedder: Embedder) -> None:
    assert embedder.encode_queries([]).shape == (0, embedder.dimension)


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ("one text", "One str was given"),
        ([3], "Item 0 is a int"),
        (["a", {"txt": "a"}], "Item 1 has the unknown key 'txt'"),
        ([{"text": ""}], "neither a text nor an image"),
        ([{"image": 3}], "of another type"),
        ([Path("missing.png")], r"image missing\.png is missing"),
    ],
)
def test_what_is_no_input_is_refused(embedder: Embedder, items: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        embedder.encode_documents(items)
    with pytest.raises(ConfigError, match="'list' is unknown"):
        embedder.encode_documents(["a"], output="list")  # type: ignore[call-overload]
