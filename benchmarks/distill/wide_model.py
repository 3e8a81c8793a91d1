"""A model with random weights, in which the decoder's layers dominate what a step costs."""

from __future__ import annotations

from pathlib import Path

from puma_cli.config.training_settings import FreshSettings
from puma_cli.models.fresh import build_fresh


def write_wide_model(folder: Path, width: int, layers: int) -> None:
    """Write the checkpoint of a Qwen2-VL of so many dimensions and layers into a new folder."""
    settings = FreshSettings(
        hidden_size=width,
        layers=layers,
        heads=8,
        key_value_heads=2,
        intermediate_size=3 * width,
    )
    folder.mkdir()
    build_fresh(settings, ["a small red circle left of a large blue square"] * 20).save(folder)
