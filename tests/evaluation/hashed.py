"""An embedder without a model: directions drawn from what is written and seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from puma_cli.models.decoding import decoded, read_encoded, size_of
from puma_cli.models.inputs import Input
from puma_cli.progress import SILENT, Reporter

_WIDTH = 16


class Hashed:
    """Embeds an input as a point that its text, instruction and pixels decide alone.

    Args:
        collapsed: give every input the same point.
    """

    def __init__(self, collapsed: bool = False) -> None:
        self.model = nn.Linear(1, 1)
        self.device = torch.device("cpu")
        self.collapsed = collapsed
        self.calls: list[list[Input]] = []

    def encode(
        self,
        inputs: Sequence[Input],
        batch_size: int = 128,
        reporter: Reporter = SILENT,
        label: str = "encode",
    ) -> Tensor:
        self.calls.append(list(inputs))
        rows = [point(Input(text="") if self.collapsed else entry) for entry in inputs]
        return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, _WIDTH)


def point(entry: Input) -> np.ndarray:
    """Return the point of an input, of unit length."""
    digest = hashlib.sha256()
    for text in (entry.instruction, entry.text):
        digest.update(b"-" if text is None else b"+" + text.encode())
    if entry.image is not None:
        encoded = read_encoded(entry.image)
        size_of(encoded, entry.image)
        digest.update(decoded(encoded, entry.image).convert("RGB").tobytes())
    seed = int.from_bytes(digest.digest()[:8], "little")
    values = np.random.default_rng(seed).standard_normal(_WIDTH)
    return (values / np.linalg.norm(values)).astype(np.float32)
