"""Writing tiny checkpoints to disk."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from puma_cli.models.quiet import quiet_transformers


def write_checkpoint(
    name: str,
    folder: Path,
    *,
    layers: int = 6,
    dtype: str = "float32",
    shards: int = 1,
    head: bool = True,
) -> Path:
    """Write the zoo's model `name` into `folder` and return the folder.

    Args:
        name: a key of `FAMILIES`.
        folder: made if it is not there.
        layers: number of decoder layers (>= 1).
        dtype: a torch dtype's name: `float32`, `bfloat16` or `float16`.
        shards: number of weight files (>= 1); more than one have an index.
        head: whether the class with an LM head is written, else the base class.
    """
    import torch
    import transformers
    from safetensors.torch import load_file

    from tests.zoo import FAMILIES

    member = FAMILIES[name]
    head = head and not member.base_only
    cls: Any = getattr(transformers, member.generation)
    config = cls.config_class(**member.config(layers), tie_word_embeddings=member.tied)
    with quiet_transformers():
        model = cls(config) if head else transformers.AutoModel.from_config(config)
        model.config.dtype = getattr(torch, dtype)
        spread(model, seed=zlib.crc32(name.encode()))
        for parameter in model.parameters():
            parameter.data = parameter.data.to(getattr(torch, dtype))
        model.save_pretrained(folder)
    path = folder / "config.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    tensors = load_file(folder / "model.safetensors")
    if member.form is not None:
        raw, tensors = member.form(raw, tensors)
        path.write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    _write_shards(folder, tensors, shards)
    return folder


def spread(model: Any, seed: int) -> None:
    """Give a model weights of such sizes that every layer changes the result visibly."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name in model.state_dict():
            tensor = own.get(name)
            if tensor is None or not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim >= 2:
                tensor.copy_(0.2 * noise)
            elif tensor.numel() == 1:
                # Gates, which are closed at first.
                tensor.fill_(0.8)
            else:
                tensor.add_(0.2 * noise)


def _write_shards(folder: Path, tensors: dict[str, Any], shards: int) -> None:
    from safetensors.torch import save_file

    (folder / "model.safetensors").unlink()
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    # In the model's order, as published checkpoints are: a layer may lie across two files.
    names = list(tensors)
    weight_map = {
        name: f"model-{place * shards // len(names) + 1:05d}-of-{shards:05d}.safetensors"
        for place, name in enumerate(names)
    }
    for file in sorted(set(weight_map.values())):
        part = {name: tensor for name, tensor in tensors.items() if weight_map[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    total = sum(tensor.nbytes for tensor in tensors.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n",
        encoding="utf-8",
    )
