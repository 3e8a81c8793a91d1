"""Switching a model to evaluation and back, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Hold every module of `model` in evaluation mode; restore each module's own mode after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        # Module by module: train() on the whole would thaw a part held in evaluation mode.
        for module, training in modes:
            module.training = training
