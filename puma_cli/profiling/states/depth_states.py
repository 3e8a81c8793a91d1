"""The residual stream after every decoder layer, read at a few tokens during one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from puma_cli.errors import ConfigError, NumericError
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import MEAN, EmbedderSettings
from puma_cli.models.processing import Batch
from puma_cli.profiling.states.last_layer import last_layer_at

# How far the last layer at one token may be from the whole layer, relative: rounding, not a fault.
_AGREEMENT = {torch.float32: 1e-3, torch.float64: 1e-6}
_ROUGH_AGREEMENT = 0.1


@dataclass(frozen=True)
class DepthStates:
    """What one pass over a batch shows of the layers, before the final norm.

    Args:
        embed: states at the embed token after k = 0 to L layers (L + 1, B, D).
        tokens: states at further tokens (L + 1, R, D), or None if none were asked for.
        keep_last: states at the embed token of the cut to layers 0 to k - 2 and L - 1, at index k
            (L + 1, B, D), or None; index 0 holds zeros.
    """

    embed: Tensor
    tokens: Tensor | None = None
    keep_last: Tensor | None = None


def check_reads_one_token(settings: EmbedderSettings) -> None:
    """Raise ConfigError for a model that is pooled by the mean of its tokens."""
    if settings.pooling == MEAN:
        raise ConfigError(
            "The model is pooled by the mean of its tokens (pooling 'mean').",
            cause="An analysis reads what every depth says at one token of each input.",
            hint="Choose the cut yourself: `puma prune MODEL --keep K`, with --bridge --data DATA "
            "for a head that needs no training, and compare cuts with `puma eval`.",
        )


@torch.no_grad()
def read_states(
    embedder: Embedder, batch: Batch, places: Tensor | None = None, keep_last: bool = False
) -> DepthStates:
    """Run the model once and return its states at every depth; no whole layer output is kept.

    Args:
        embedder: the model at full depth L.
        batch: B inputs.
        places: further tokens of each input (B, M), -1 for none; read row by row.
        keep_last: also run the last layer on every layer's input, at the embed token.

    Raises:
        ConfigError: the model reads no single token.
        NumericError: the last layer, run at one token, is not what the model computes.
    """
    check_reads_one_token(embedder.settings)
    reader = _Reader(embedder, batch, places, keep_last)
    hooks = [
        layer.register_forward_pre_hook(reader.before(), with_kwargs=True)
        for layer in embedder.decoder.layers
    ]
    hooks.append(embedder.decoder.layers[-1].register_forward_hook(reader.after()))
    try:
        embedder.post_norm_states(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return reader.result()


class _Reader:
    def __init__(
        self, embedder: Embedder, batch: Batch, places: Tensor | None, keep_last: bool
    ) -> None:
        self._last = batch.places
        self._rows = torch.arange(len(batch.last), device=batch.last.device)
        self._final_layer = embedder.decoder.layers[-1] if keep_last else None
        self._chosen: tuple[Tensor, Tensor] | None = None
        if places is not None:
            rows, columns = torch.nonzero(places >= 0, as_tuple=True)
            self._chosen = rows.to(batch.last.device), places[rows, columns].to(batch.last.device)
        self._embed: list[Tensor] = []
        self._tokens: list[Tensor] = []
        self._cuts: list[Tensor] = []

    def before(self) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            self._read(hidden)
            if self._final_layer is not None:
                positions = kwargs["position_embeddings"]
                self._cuts.append(last_layer_at(self._final_layer, hidden, self._last, positions))

        return hook

    def after(self) -> Callable[..., None]:
        def hook(_: nn.Module, args: object, output: Any) -> None:
            self._read(output[0] if isinstance(output, tuple) else output)

        return hook

    def _read(self, hidden: Tensor) -> None:
        self._embed.append(hidden[self._rows, self._last])
        if self._chosen is not None:
            self._tokens.append(hidden[self._chosen])

    def result(self) -> DepthStates:
        embed = torch.stack(self._embed)
        keep_last = None
        if self._cuts:
            keep_last = torch.stack([torch.zeros_like(embed[0]), *self._cuts])
            _check_agreement(keep_last[-1], embed[-1])
        tokens = torch.stack(self._tokens) if self._chosen is not None else None
        return DepthStates(embed, tokens, keep_last)


def _check_agreement(ours: Tensor, models: Tensor) -> None:
    # At k = L the keep-last cut is the whole model, so every batch proves the short cut right.
    error = (ours.float() - models.float()).norm() / models.float().norm()
    if bool(error > _AGREEMENT.get(models.dtype, _ROUGH_AGREEMENT)):
        raise NumericError(
            f"The last layer at the embed token is off by {float(error):.1%}.",
            cause="This architecture's layers are not those of Qwen2-VL.",
            hint="Analyze it without keep-last cuts: --no-keep-last.",
        )
