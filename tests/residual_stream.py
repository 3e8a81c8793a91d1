"""The residual stream of a model, read plainly: what faster readings are held against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from puma_cli.models.embedder import Embedder
from puma_cli.models.processing import Batch


@torch.no_grad()
def residual_states(embedder: Embedder, batch: Batch) -> Tensor:
    """Return the residual stream at the embed token before the final norm (L + 1, B, D).

    Row 0 is the embedding output, row k the output of the k-th layer.
    """
    rows: list[Tensor] = []

    def keep_input(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        rows.append(_at_last(hidden, batch))

    def keep_output(_: nn.Module, args: object, output: Any) -> None:
        rows.append(_at_last(output[0] if isinstance(output, tuple) else output, batch))

    layers = embedder.decoder.layers
    hooks = [layers[0].register_forward_pre_hook(keep_input, with_kwargs=True)]
    hooks += [layer.register_forward_hook(keep_output) for layer in layers]
    try:
        embedder.post_norm_states(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(rows)


def _at_last(hidden: Tensor, batch: Batch) -> Tensor:
    return hidden[torch.arange(len(hidden)), batch.last]
