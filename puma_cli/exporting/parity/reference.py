"""The model that an export is compared with: as it is, its weights rounded as the export's are."""

from __future__ import annotations

from pathlib import Path

import torch

from puma_cli.models.devices import DTYPES
from puma_cli.models.embedder import Embedder
from puma_cli.models.head import Head
from puma_cli.models.opening import load
from puma_cli.models.vision_attention import project_as_stock


def reference(folder: Path, dtype: str, head: Head | None) -> Embedder:
    """Return the model in float32 with its weights rounded as an export in `dtype` has them."""
    embedder = load(folder, "cpu", "float32")
    embedder.head = head
    if hasattr(embedder.model, "visual"):
        # What is proven is the export, to the last digits: puma's own way to project patches is
        # faster, and rounds in another order.
        project_as_stock(embedder.model.visual)
    if dtype in DTYPES and dtype != "float32":
        with torch.no_grad():
            for weight in embedder.model.parameters():
                weight.copy_(weight.to(DTYPES[dtype]).float())
    return embedder
