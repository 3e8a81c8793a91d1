"""Cut checkpoints and checkpoints with a head, made without the code that is tested."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from puma_cli.models.head_file import BRIDGE
from puma_cli.models.opening import load


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


def save_cut(source: Path, folder: Path, kept: Sequence[int]) -> Path:
    """Load a checkpoint, leave out the other layers, and save it as `folder`."""
    embedder = load(source, "cpu")
    embedder.decoder.layers = torch.nn.ModuleList(embedder.decoder.layers[k] for k in kept)
    config = embedder.model.config.text_config
    config.layer_types = [config.layer_types[k] for k in kept]
    config.num_hidden_layers = len(kept)
    folder.mkdir()
    embedder.save(folder)
    return folder
