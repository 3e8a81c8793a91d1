"""The learning-rate schedule in closed form, and the parameter groups."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from puma_cli.config.training_settings import OptimizerSettings
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


class Deep(nn.Module):
    """What a decoder of three layers consists of, by the names that a real one has."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Module()
        self.network.language_model = nn.Module()
        self.network.language_model.embed_tokens = nn.Embedding(3, 2)
        self.network.language_model.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.network.language_model.norm = nn.LayerNorm(2)
        self.network.visual = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])})
        self.embed_token = nn.Module()
        self.embed_token.row = nn.Parameter(torch.ones(2))
        self.head = nn.Linear(2, 2)


def rates(model: nn.Module, settings: OptimizerSettings, *layers: int) -> dict[str, float]:
    """The learning rate of every parameter that trains, at a rate of 1."""
    optimizer = build_optimizer(model, settings, layers or None)
    set_learning_rate(optimizer, 1.0)
    found = {
        id(parameter): group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    names = {"network.language_model.": "", "network.": "", ".weight": ""}
    rows = {}
    for name, value in model.named_parameters():
        for long, short in names.items():
            name = name.replace(long, short)
        if id(value) in found and "bias" not in name:
            rows[name] = found[id(value)]
    return rows


def test_the_rate_falls_by_the_same_factor_from_each_layer_to_the_one_below() -> None:
    settings = OptimizerSettings(layer_decay=0.5, first_layer_scale=0.25)
    assert rates(Deep(), settings) == {
        "embed_tokens": 0.125,
        "visual.layers.0": 0.125,
        "embed_token.row": 0.125,
        # Both factors count in layer 0: (1/2)^(3-1-0) * 1/4.
        "layers.0": 0.0625,
        "layers.1": 0.5,
        "layers.2": 1.0,
        "norm": 1.0,
        "head": 1.0,
    }


def test_without_a_decay_all_but_layer_zero_learn_at_the_rate() -> None:
    found = rates(Deep(), OptimizerSettings(first_layer_scale=0.25))
    assert found.pop("layers.0") == 0.25 and set(found.values()) == {1.0}


def test_layers_count_by_their_place_in_the_student_and_not_in_the_teacher() -> None:
    """One copy holds the teacher's layers too, which do not train."""
    model = Deep()
    model.network.requires_grad_(False)
    network: Any = model.network
    for kept in (1, 2):
        network.language_model.layers[kept].requires_grad_(True)
    settings = OptimizerSettings(layer_decay=0.5, first_layer_scale=0.25)
    expected = {"layers.1": 0.125, "layers.2": 1.0, "embed_token.row": 0.25, "head": 1.0}
    assert rates(model, settings, 1, 2) == rates(model, settings) == expected
