"""A mining of a tiny data set, done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from puma_cli.config.settings import MineSettings
from puma_cli.mining.mine import mine
from puma_cli.mining.summary import MineResult


@pytest.fixture
def settings(tiny_checkpoint: Path, tiny_scenes: Path, tmp_path: Path) -> MineSettings:
    return MineSettings(
        str(tiny_checkpoint), tiny_scenes, tmp_path / "mined", negatives=3, device="cpu"
    )


@pytest.fixture(scope="module")
def mined(
    tiny_checkpoint: Path, tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> MineResult:
    folder = tmp_path_factory.mktemp("mined") / "scenes"
    return mine(MineSettings(str(tiny_checkpoint), tiny_scenes, folder, negatives=3, device="cpu"))
