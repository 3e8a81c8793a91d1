"""Fixtures shared by all rooms: a tiny checkpoint and a tiny data set, made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Two workers on two cores: a thread each, and never the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# How long an example takes says how busy the machine is.
settings.register_profile("puma", deadline=None)
settings.load_profile("puma")

TINY_LAYERS = 4


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the vectors of tests apart from the user's, those of processes they start included."""
    os.environ["PUMA_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small `scenes` data set in the M-BEIR layout."""
    from puma_cli.data.scenes.dataset import make_scenes

    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, seed=0, train_scenes=60, test_targets=6, val_targets=4)
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2-VL of four narrow layers, saved with its side files and `embedder.json`."""
    from puma_cli.config.training_settings import FreshSettings
    from puma_cli.models.fresh import build_fresh

    settings = FreshSettings(
        hidden_size=32,
        layers=TINY_LAYERS,
        heads=2,
        key_value_heads=1,
        intermediate_size=48,
        vocabulary=320,
        vision_size=32,
        vision_layers=1,
        vision_heads=2,
    )
    texts = ["small red circle left of large blue square on sand", "find the picture", "on white"]
    embedder = build_fresh(settings, texts * 20, seed=1)
    _spread(embedder.model)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    embedder.save(folder)
    return folder


def _spread(model: object) -> None:
    """Enlarge the initial weights, so that every layer changes the result visibly."""
    import torch

    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():  # type: ignore[attr-defined]
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.15, generator=generator)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
