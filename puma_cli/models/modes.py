"""Switching a model to evaluation and back, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Hold every module of `model` in evaluation mode; restore each module's own mode after.

    Args:
        model: a module, or None where there is none yet.
    """
    modes = [] if model is None else [(module, module.training) for module in model.modules()]
    if model is not None:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        # Module by module: train() on the whole would thaw a part held in evaluation mode.
        for module, training in modes:
            module.training = training
