"""The head of an embedder: an affine map from its post-norm states to its embeddings."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from puma_cli.errors import CheckpointError
from puma_cli.models.head_file import BIAS, DENSE_BIAS, DENSE_WEIGHT, WEIGHT, head_path, head_shape


class Head(nn.Module):
    """The map x -> x @ weight + bias, in float32 whatever the model computes in.

    It is part of the embedder, not of the stock model: plain transformers gives the vectors before.

    Args:
        weight: (D, D_t).
        bias: (D_t,).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().to(torch.float32).contiguous())
        self.bias = nn.Parameter(bias.detach().to(torch.float32).contiguous())
        # How much of the map there is; the rest is the identity, and at 0 it has gone.
        self.share = 1.0

    @property
    def outputs(self) -> int:
        """Length D_t of what it gives."""
        return self.bias.shape[0]

    def forward(self, states: Tensor) -> Tensor:
        """Return the embeddings (..., D_t) of post-norm states (..., D)."""
        # A map fitted in float64 must not be rounded to bfloat16 by a training's autocast.
        with torch.autocast(states.device.type, enabled=False):
            mapped = states.float() @ self.weight + self.bias
            if self.share == 1.0:
                return mapped
            return self.share * mapped + (1 - self.share) * states.float()


def read_head(folder: Path, name: str, width: int, dimension: int) -> Head:
    """Return the head in the file `name` of a checkpoint folder, on the CPU.

    Args:
        width: length D of the model's post-norm states.
        dimension: length D_t of the embeddings that `embedder.json` promises.

    Raises:
        CheckpointError: the file is missing, broken, of other sizes or not finite.
    """
    path = head_path(folder, name)
    shape = head_shape(folder, name)
    if shape != (width, dimension):
        raise CheckpointError(
            f"The head {path} maps {shape[0]} numbers to {shape[1]}.",
            cause=f"The model gives {width}, and its embeddings should have {dimension}.",
            hint="The head belongs to another model; cut this one with `puma prune --bridge`.",
        )
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"The head {path} cannot be read.", cause=str(error)) from error
    for key, values in tensors.items():
        if not values.isfinite().all():
            raise CheckpointError(
                f"The head {path} holds a {key} that is not finite.",
                hint="Cut the model again with `puma prune --bridge`.",
            )
    if DENSE_WEIGHT in tensors:
        weight = tensors[DENSE_WEIGHT].T
        return Head(weight, tensors.get(DENSE_BIAS, torch.zeros(dimension)))
    return Head(tensors[WEIGHT], tensors[BIAS])


def write_head(head: Head, path: Path) -> None:
    """Write a head as float32 safetensors."""
    tensors = {WEIGHT: head.weight, BIAS: head.bias}
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
        path,
        metadata={"format": "pt"},
    )
