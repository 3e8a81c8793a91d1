from pathlib import Path

import pytest

from puma_cli.data.scenes.dataset import make_scenes

SIZES = {"train_scenes": 120, "test_targets": 8, "val_targets": 4}


@pytest.fixture(scope="session")
def small_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scenes data set."""
    return make_scenes(tmp_path_factory.mktemp("scenes") / "small", **SIZES)
