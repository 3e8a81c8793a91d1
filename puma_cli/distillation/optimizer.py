"""AdamW with a learning rate for each depth, and the schedule of the rate as a pure function."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW

from puma_cli.config.training_settings import OptimizerSettings
from puma_cli.distillation.gradients import is_sharded

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
# What the decoder's layer 0 reads: the table, the row that stands in for one of it, the images.
_BELOW = ("embed_token", "visual")


def build_optimizer(
    model: nn.Module, settings: OptimizerSettings, layers: Sequence[int] | None = None
) -> AdamW:
    """Return AdamW over the trainable parameters, in groups of one learning rate each.

    Matrices decay, vectors (norms, biases) and temperatures do not.

    Args:
        model: what is trained, with its decoder's layers under `layers.N`.
        layers: those numbers N, first layer to last, where some of the layers are another model's;
            by default all there are.
    """
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    found = {layer for name, _ in named if (layer := _layer(name)) is not None}
    order = sorted(found) if layers is None else list(layers)
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        matrix = parameter.ndim >= 2 and "log_value" not in name
        # One update takes many tensors of a group at once, all whole or all sharded.
        key = (_scale(name, order, settings), matrix, is_sharded(parameter))
        groups.setdefault(key, []).append(parameter)
    options: list[dict[str, Any]] = [
        {
            "params": parameters,
            "scale": scale,
            "weight_decay": settings.weight_decay if matrix else 0.0,
        }
        for (scale, matrix, _), parameters in groups.items()
    ]
    on_gpu = any(p.device.type == "cuda" for group in options for p in group["params"])
    return AdamW(
        options,
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=on_gpu or None,
    )


def _layer(name: str) -> int | None:
    """Return the number of the decoder layer that a parameter belongs to, if it does."""
    found = _LAYER.search(name)
    return int(found[1]) if found and not any(part in name for part in _BELOW) else None


def _scale(name: str, layers: Sequence[int], settings: OptimizerSettings) -> float:
    """Return a parameter's share of the learning rate.

    It is d^(k-1-i) in layer i of k, times the factor of layer 0 there; d^k below all layers, and 1
    above them.
    """
    count, number = len(layers), _layer(name)
    if any(part in name for part in _BELOW):
        return settings.layer_decay**count
    if number is None:
        return 1.0
    place = layers.index(number)
    first = settings.first_layer_scale if place == 0 else 1.0
    return float(first * settings.layer_decay ** (count - 1 - place))


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Return the learning rate of step `step` of `steps`: linear warm-up, then half a cosine."""
    warmup = math.ceil(settings.warmup * steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    cosine = (1 + math.cos(math.pi * share)) / 2
    return settings.learning_rate * (settings.floor + (1 - settings.floor) * cosine)


def set_learning_rate(optimizer: AdamW, value: float) -> None:
    """Give every group its share of `value`."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["scale"]
