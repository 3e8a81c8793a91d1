"""Refusing vectors that are not finite numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from puma_cli.errors import NumericError


def check_finite(name: str, embeddings: Tensor) -> None:
    """Raise NumericError if some of the embeddings (N, D) of `name` are not finite."""
    # A NaN loses every comparison, so it would count as a perfect rank. One in a row makes its
    # sum one, which spares a mask of the whole matrix.
    bad = int((~embeddings.sum(dim=1, dtype=torch.float32).isfinite()).sum())
    if bad:
        raise NumericError(
            f"{bad} of {len(embeddings)} {name} embeddings are not finite.",
            cause="The model overflows in this dtype, or its weights are broken.",
            hint="Try --dtype float32.",
        )
