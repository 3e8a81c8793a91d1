"""The learning-rate schedule in closed form, and the parameter groups."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from puma_cli.config.settings import OptimizerSettings
from puma_cli.distillation.optimizer import build_optimizer, learning_rate, set_learning_rate


def test_warm_up_then_half_a_cosine_down_to_the_floor() -> None:
    settings = OptimizerSettings(learning_rate=2.0, warmup=0.1, floor=0.25)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0 and max(rates) == 2.0
    middle = 2.0 * (0.25 + 0.75 * (1 + math.cos(math.pi * 0.5)) / 2)
    assert rates[55] == pytest.approx(middle)
    assert all(before > after for before, after in zip(rates[10:], rates[11:], strict=False))
    assert learning_rate(100, 100, settings) == pytest.approx(0.5)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert learning_rate(0, 10, OptimizerSettings(learning_rate=1.0, warmup=0.0)) == 1.0


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.visual = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])})
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_layer_zero_of_the_decoder_has_its_own_rate_and_vectors_do_not_decay() -> None:
    model = Toy()
    settings = OptimizerSettings(learning_rate=0.1, first_layer_scale=0.5, weight_decay=0.2)
    optimizer = build_optimizer(model, settings)
    set_learning_rate(optimizer, 0.1)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found[id(model.layers[0].weight)] == (0.05, 0.2)
    assert found[id(model.layers[0].bias)] == (0.05, 0.0)
    assert found[id(model.layers[1].weight)] == (0.1, 0.2)
    assert found[id(model.visual["layers"][0].weight)] == (0.1, 0.2)
    assert id(model.frozen.weight) not in found


def test_a_step_moves_layer_zero_by_half() -> None:
    """AdamW's first step has the length of the learning rate, whatever the gradient."""
    model = Toy()
    optimizer = build_optimizer(model, OptimizerSettings(learning_rate=0.1, first_layer_scale=0.5))
    before = [layer.weight.detach().clone() for layer in model.layers]
    sum(layer.weight.sum() for layer in model.layers).backward()  # type: ignore[union-attr]
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    moved = [
        (old - layer.weight).abs().mean().item()
        for old, layer in zip(before, model.layers, strict=True)
    ]
    assert moved == pytest.approx([0.05, 0.1], rel=1e-4)
    assert torch.equal(model.frozen.weight, model.frozen.weight)
