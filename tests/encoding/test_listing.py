"""The cache says what it holds, and gives back what it is asked to."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from puma_cli.cli.app import run
from puma_cli.encoding.cache_folder import ABOUT, HASHES, VECTORS
from puma_cli.encoding.identity import KEY_BYTES
from puma_cli.encoding.listing import choose, clear, list_stores, span
from puma_cli.encoding.store import VectorStore
from puma_cli.errors import ConfigError

DAY = 86_400


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three stores, used now, 10 and 40 days ago."""
    root = tmp_path / "cache"
    for number, (model, days) in enumerate((("mini", 0), ("org/large", 10), ("org/old", 40))):
        folder = root / VECTORS / f"{number}"
        about = {"model": model, "kind": "unit", "dtype": "float32"}
        store = VectorStore(folder, about, torch.float16)
        for start in range(number + 1):
            keys = [(5 * start + n).to_bytes(KEY_BYTES, "big") for n in range(5)]
            store.write(np.frombuffer(b"".join(keys), f"S{KEY_BYTES}"), torch.ones(5, 7))
        used = time.time() - days * DAY - 60
        os.utime(folder, (used, used))
    (root / HASHES).write_bytes(b"")
    return root


def test_a_list_has_rows_and_bytes_and_age(cache: Path) -> None:
    stores = list_stores(cache)
    assert [(s.model, s.rows, s.dimension) for s in stores] == [
        ("mini", 5, 7), ("org/large", 10, 7), ("org/old", 15, 7)
    ]  # fmt: skip
    for store, days in zip(stores, (0, 10, 40), strict=True):
        assert days * DAY <= store.age < days * DAY + 600
        files = list(store.folder.glob("*.safetensors"))
        assert store.bytes == sum(file.stat().st_size for file in files)
    assert list_stores(cache / "nowhere") == []


def test_a_store_that_was_used_is_young_again(cache: Path) -> None:
    old = list_stores(cache)[2]
    VectorStore(old.folder).used()
    assert list_stores(cache)[0].model in ("org/old", "mini")
    assert {store.age < 120 for store in list_stores(cache)[:2]} == {True}


def test_what_is_chosen(cache: Path) -> None:
    stores = list_stores(cache)

    def named(*asked: str | None) -> list[str]:
        return [store.model for store in choose(stores, *asked)]  # type: ignore[arg-type]

    assert named(None, "*") == ["mini", "org/large", "org/old"]
    assert named("30d", "*") == ["org/old"]
    assert named("1w", "org/*") == ["org/large", "org/old"]
    assert named(None, "*i*") == ["mini"]
    assert named("5d", "mini") == []


def test_spans() -> None:
    assert [span(t) for t in ("30d", " 2 H", "5m", "1w", "9s")] == [
        30 * DAY,
        7_200,
        300,
        604_800,
        9,
    ]
    for text in ("", "30", "d", "-1d", "1.5d", "1y", "30d 2h"):
        with pytest.raises(ConfigError, match="span"):
            span(text)


def test_clearing_takes_what_puma_wrote_and_nothing_else(cache: Path, tmp_path: Path) -> None:
    stores = list_stores(cache)
    mine = stores[0].folder / "mine.txt"
    mine.write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ABOUT).write_text("{}")
    (cache / VECTORS / "link").symlink_to(outside)
    assert clear(list_stores(cache)) == sum(store.bytes for store in stores)
    assert mine.exists() and (outside / ABOUT).exists()
    assert list_stores(cache) == []
    left = {path.name for path in (cache / VECTORS).iterdir()}
    assert left == {mine.parent.name, "link"}


def test_the_commands(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--cache-dir", str(cache)]
    assert run(["cache", "list", *where]) == 0
    shown = capsys.readouterr().out
    assert "org/large" in shown and "40 d ago" in shown
    assert run(["cache", "list", *where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [store["rows"] for store in found["stores"]] == [5, 10, 15]
    assert run(["cache", "clear", *where]) == 2
    assert "--yes" in capsys.readouterr().err
    assert run(["cache", "clear", *where, "--older-than", "soon", "--yes"]) == 2
    assert len(list_stores(cache)) == 3
    assert run(["cache", "clear", *where, "--older-than", "30d", "--yes", "--json"]) == 0
    removed = json.loads(capsys.readouterr().out)["removed"]
    assert [store["model"] for store in removed] == ["org/old"]
    assert (cache / HASHES).exists()
    assert run(["cache", "clear", *where, "-y"]) == 0
    assert list_stores(cache) == [] and not (cache / HASHES).exists()
    assert run(["cache", "list", *where]) == 0
    assert "No vectors" in capsys.readouterr().out
