"""Indexes of a small model, in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.embed import embed

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of forty things, every fourth with an image, some of them twice."""
    folder = tmp_path_factory.mktemp("shop")
    rows = []
    for n in range(40):
        row = {"id": f"thing-{n}", "text": f"a thing of kind {n % 31} in red", "price": n}
        if n % 4 == 0:
            Image.new("RGB", (36 + n, 40), (6 * n, 255 - 6 * n, 90)).save(folder / f"{n}.png")
            row["image"] = f"{n}.png"
        rows.append(json.dumps(row))
    (folder / "things.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def make_index(tiny_checkpoint: Path, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return an index of the shop; made once for each way of making it."""
    made: dict[str, Path] = {}

    def make(model: Path = tiny_checkpoint, **other: object) -> Path:
        name = repr((model, sorted(other.items())))
        if name not in made:
            folder = tmp_path_factory.mktemp("index") / "index"
            given = {"shard_rows": 16, "device": "cpu"} | other
            embed(
                EmbedSettings(
                    str(model),
                    (str(shop / "things.jsonl"),),
                    folder,
                    **given,  # type: ignore[arg-type]
                )
            )
            made[name] = folder
        return made[name]

    return make
