"""What student and teacher have in common, so that it need be in memory once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from puma_cli.models.embedder import Embedder


@torch.no_grad()
def same_weights(student: Embedder, teacher: Embedder, kept: Sequence[int]) -> bool:
    """Tell whether the student's weights are exactly the teacher's layers `kept` and the rest."""
    if len(kept) != student.depth or max(kept) >= teacher.depth:
        return False
    with teacher.layers(kept):
        theirs = teacher.model.state_dict()
        ours = student.model.state_dict()
        return ours.keys() == theirs.keys() and all(
            _alike(value, theirs[name]) and torch.equal(value, theirs[name].to(value.device))
            for name, value in ours.items()
        )


def share_frozen(student: Embedder, teacher: Embedder) -> bool:
    """Let the teacher use the student's frozen parts where they are equal; tell if vision is."""
    same_vision = student.tower is None or _equal(student.tower, teacher.tower)
    if same_vision and student.tower is not None:
        teacher.model.visual = student.model.visual
    ours, theirs = student.decoder.embed_tokens, teacher.decoder.embed_tokens
    if not ours.weight.requires_grad and _equal(ours, theirs):
        teacher.decoder.embed_tokens = ours
    return same_vision


@torch.no_grad()
def _equal(ours: nn.Module, theirs: nn.Module) -> bool:
    first, second = ours.state_dict(), theirs.state_dict()
    return first.keys() == second.keys() and all(
        _alike(value, second[name]) and torch.equal(value, second[name])
        for name, value in first.items()
    )


def _alike(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and ours.dtype == theirs.dtype
