"""A small model and inputs of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load

Make = Callable[..., EmbedSettings]


@pytest.fixture(scope="session")
def embedder(tiny_checkpoint: Path) -> Embedder:
    return load(tiny_checkpoint, "cpu")


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-three texts of different lengths."""
    path = tmp_path_factory.mktemp("lines") / "lines.txt"
    texts = ["small red circle " * (n % 5 + 1) + f"number {n}" for n in range(23)]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of four images, one of them deeper, beside what is no image."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.jpg", "deep/c.png", "d.PNG")):
        Image.new("RGB", (40 + number, 32), (60 * number, 90, 200)).save(folder / name)
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def make(tiny_checkpoint: Path, tmp_path: Path) -> Make:
    """Return settings for the small model, on shards of four."""

    def settings(*inputs: object, **other: object) -> EmbedSettings:
        given = {"shard_rows": 4, "output_dir": tmp_path / "index", "device": "cpu"} | other
        names = tuple(map(str, inputs))
        return EmbedSettings(str(tiny_checkpoint), names, **given)  # type: ignore[arg-type]

    return settings
