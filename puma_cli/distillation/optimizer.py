"""AdamW with the reference's groups, and its learning-rate schedule as a pure function."""

from __future__ import annotations

import math
import re
from typing import Any

from torch import nn
from torch.optim import AdamW

from puma_cli.config.settings import OptimizerSettings
from puma_cli.distillation.gradients import is_sharded

_FIRST_LAYER = re.compile(r"(^|\.)layers\.0\.")


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> AdamW:
    """Return AdamW over the trainable parameters, with layer 0 of the decoder in groups of its own.

    Matrices decay, vectors (norms, biases) and temperatures do not.
    """
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            first = _FIRST_LAYER.search(name) and "visual" not in name
            scale = settings.first_layer_scale if first else 1.0
            matrix = parameter.ndim >= 2 and "log_value" not in name
            # One update takes many tensors of a group at once, all whole or all sharded.
            key = (scale, matrix, is_sharded(parameter))
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
