"""Checkpoints with a head, for the tests of several rooms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from puma_cli.models.head_file import BRIDGE


def add_head(source: Path, folder: Path, outputs: int = 32, seed: int = 9) -> Path:
    """Copy a checkpoint of width 32 to `folder` and give it a random head."""
    shutil.copytree(source, folder)
    generator = torch.Generator().manual_seed(seed)
    head = {
        "weight": torch.randn(32, outputs, generator=generator),
        "bias": torch.randn(outputs, generator=generator),
    }
    save_file(head, folder / BRIDGE)
    path = folder / "embedder.json"
    content = json.loads(path.read_text()) | {"head": BRIDGE, "dimension": outputs}
    path.write_text(json.dumps(content))
    return folder
