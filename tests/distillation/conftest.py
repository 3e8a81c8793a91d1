"""A tiny cut and the settings that train it, for every test of a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from puma_cli.config.settings import PruneSettings
from puma_cli.config.training_settings import (
    BatchSettings,
    DistillSettings,
    FreshSettings,
    LossSettings,
    OptimizerSettings,
    TrainSettings,
)
from puma_cli.distillation.live_page import LivePage
from puma_cli.models.fresh import build_fresh
from puma_cli.pruning.prune import prune


@pytest.fixture(scope="module")
def pruned(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pruned") / "cut"
    prune(PruneSettings(str(tiny_checkpoint), folder, keep=2))
    return folder


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2-VL of three layers whose rows fill whole blocks of 64, as 4 bits need it."""
    settings = FreshSettings(
        hidden_size=64, layers=3, heads=2, key_value_heads=1, intermediate_size=128,
        vocabulary=320, vision_size=32, vision_layers=1, vision_heads=2,
    )  # fmt: skip
    embedder = build_fresh(settings, ["small red circle on white", "find it"] * 9, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in embedder.model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    folder = tmp_path_factory.mktemp("wide") / "wide"
    folder.mkdir()
    embedder.save(folder)
    return folder


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the seconds that a page takes in every test but those that ask for `drawn`."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(LivePage, "draw", lambda self: None)


@pytest.fixture
def drawn() -> None:
    """Draw the pages of trainings."""


@pytest.fixture
def settings(
    tiny_checkpoint: Path, tiny_scenes: Path, pruned: Path, tmp_path: Path
) -> DistillSettings:
    return DistillSettings(
        student=str(pruned),
        teacher=str(tiny_checkpoint),
        data=tiny_scenes,
        output_dir=tmp_path / "student",
        loss=LossSettings(contrastive="mac", mse=0.1, cosine=0.5, similarity=0.2),
        optimizer=OptimizerSettings(learning_rate=1e-3),
        batch=BatchSettings(size=8),
        train=TrainSettings(steps=6, validate_every=3, validation_limit=2),
        device="cpu",
    )
