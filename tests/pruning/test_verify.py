"""A cut that computes something else, or that stock loaders cannot open, is caught."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from puma_cli.errors import VerificationError
from puma_cli.pruning.plan import make_plan
from puma_cli.pruning.side_files import copy_side_files
from puma_cli.pruning.truncate import write_weights
from puma_cli.pruning.verify import check_keys, check_parity
from tests.pruning.conftest import weights_of


@pytest.fixture
def cut(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint cut to its first two layers."""
    folder = tmp_path / "cut"
    folder.mkdir()
    copy_side_files(tiny_checkpoint, folder)
    write_weights(make_plan(tiny_checkpoint, (0, 1)), folder)
    return folder


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_good_cut_passes(cut: Path, tiny_checkpoint: Path) -> None:
    check_keys(cut)
    parity = check_parity(tiny_checkpoint, cut, (0, 1))
    assert parity.difference <= 1e-6
    assert parity.reference == "norm(h[2])"


def test_missing_unexpected_and_misshapen_weights_are_caught(cut: Path) -> None:
    good = weights_of(cut)
    name = "language_model.norm.weight"
    rewrite(cut, {key: value for key, value in good.items() if key != name})
    with pytest.raises(VerificationError, match=r"lacks the weight `language_model\.norm"):
        check_keys(cut)
    rewrite(cut, {**good, "visual.extra": torch.zeros(2)})
    with pytest.raises(VerificationError, match=r"unexpected weight `visual\.extra"):
        check_keys(cut)
    rewrite(cut, {**good, name: torch.zeros(7)})
    with pytest.raises(VerificationError, match="misshapen"):
        check_keys(cut)
    rewrite(cut, good)
    (cut / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    with pytest.raises(VerificationError, match="does not open"):
        check_keys(cut)


def test_a_swapped_layer_is_caught(cut: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(VerificationError, match="differs from the parent cut in memory"):
        check_parity(tiny_checkpoint, cut, (0, 2))


@pytest.mark.parametrize("value", [float("nan"), 0.9])
def test_a_changed_weight_is_caught(cut: Path, tiny_checkpoint: Path, value: float) -> None:
    tensors = weights_of(cut)
    tensors["language_model.layers.1.mlp.down_proj.weight"][0, 0] = value
    rewrite(cut, tensors)
    with pytest.raises(VerificationError, match="differs"):
        check_parity(tiny_checkpoint, cut, (0, 1))
