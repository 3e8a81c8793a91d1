"""Fixtures shared by the tests of checkpoint folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.checkpoint.models import write_base


@pytest.fixture(scope="session")
def base_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's config and weights, not to be written to."""
    return write_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def weights_copy(base_weights: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folder that a test may spoil."""
    return Path(shutil.copytree(base_weights, tmp_path / "model"))
