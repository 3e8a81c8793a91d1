"""The learning-rate schedule in closed form, and the parameter groups."""

from __future__ import annotations

import itertools
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
    assert all(before > after for before, after in itertools.pairwise(rates[10:]))
    assert learning_rate(100, 100, settings) == pytest.approx(0.5)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert learning_rate(0, 10, OptimizerSettings(learning_rate=1.0, warmup=0.0)) == 1.0


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        tower = nn.Module()
        tower.layers = nn.ModuleList([nn.Linear(2, 2)])
        self.visual = nn.ModuleList([tower])
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
    named = {name: found.get(id(value)) for name, value in model.named_parameters()}
    assert named == {
        "layers.0.weight": (0.05, 0.2),
        "layers.0.bias": (0.05, 0.0),
        "layers.1.weight": (0.1, 0.2),
        "layers.1.bias": (0.1, 0.0),
        "visual.0.layers.0.weight": (0.1, 0.2),
        "visual.0.layers.0.bias": (0.1, 0.0),
        "frozen.weight": None,
        "frozen.bias": None,
    }


def test_a_step_moves_layer_zero_by_half() -> None:
    """AdamW's first step has the length of the learning rate, whatever the gradient."""
    model = Toy()
    optimizer = build_optimizer(model, OptimizerSettings(learning_rate=0.1, first_layer_scale=0.5))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    torch.stack([before_sum.sum() for before_sum in model.parameters()]).sum().backward()
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    moved = {
        name: (before[name] - value).abs().mean().item() for name, value in model.named_parameters()
    }
    assert moved["layers.0.weight"] == pytest.approx(0.05, rel=1e-4)
    assert moved["layers.1.weight"] == pytest.approx(0.1, rel=1e-4)
    assert moved["frozen.weight"] == 0
