from pathlib import Path
from typing import Any

import pytest

from puma_cli.data.scenes.dataset import make_scenes

SIZES = {"train_scenes": 120, "test_targets": 8, "val_targets": 4}


def make(folder: Path, **arguments: Any) -> Path:
    """Make a small data set."""
    return make_scenes(folder, **{**SIZES, **arguments})


@pytest.fixture(scope="session")
def small_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scenes data set."""
    return make(tmp_path_factory.mktemp("scenes") / "small")
