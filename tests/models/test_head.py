"""The head: what it computes, where it is applied, and the files that are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from puma_cli.checkpoint.card import write_card
from puma_cli.checkpoint.model_facts import model_facts
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import drop_head, read_embedder_settings
from puma_cli.models.head import Head
from puma_cli.models.head_file import BRIDGE, head_shape
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.models.usage import usage_of
from tests.headed import add_head
from tests.residual_stream import residual_states
from tests.stock_loaders import check_cards

INPUTS = [Input("a red circle"), Input("a blue square on sand", instruction="Find it.")]


@pytest.fixture
def headed(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return add_head(tiny_checkpoint, tmp_path / "headed", outputs=24)


def test_embeddings_are_the_stock_vectors_through_the_map(
    tiny_checkpoint: Path, headed: Path
) -> None:
    plain, with_head = load(tiny_checkpoint, "cpu"), load(headed, "cpu")
    head = load_file(headed / BRIDGE)
    batch = plain.collate(INPUTS)
    with torch.no_grad():
        states = plain.embed(batch)
        expected = states @ head["weight"] + head["bias"]
        torch.testing.assert_close(with_head.embed(batch), expected)
        # What a cut is verified by, and what plain transformers gives, knows of no head.
        torch.testing.assert_close(with_head.post_norm_states(batch), states)
        torch.testing.assert_close(
            with_head.read_out(residual_states(with_head, batch)[-1]), states
        )
    assert (with_head.width, with_head.dimension) == (32, 24)
    torch.testing.assert_close(with_head.encode(INPUTS), normalize(expected, dim=-1))


def test_a_half_precision_model_and_autocast_leave_the_head_in_float32(headed: Path) -> None:
    embedder = load(headed, "cpu", "bfloat16")
    head = load_file(headed / BRIDGE)
    batch = embedder.collate(INPUTS)
    assert embedder.head is not None
    with torch.no_grad():
        states = embedder.post_norm_states(batch)
        assert states.dtype == torch.bfloat16
        expected = states.float() @ head["weight"] + head["bias"]
        assert torch.equal(embedder.embed(batch), expected)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(embedder.apply_head(states), expected)


def test_saving_keeps_the_head_whatever_the_dtype_of_the_weights(
    headed: Path, tmp_path: Path
) -> None:
    for dtype in ("auto", "bfloat16"):
        folder = tmp_path / dtype
        folder.mkdir()
        load(headed, "cpu").save(folder, dtype)
        before, after = load_file(headed / BRIDGE), load_file(folder / BRIDGE)
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert not any("head" in name for name in load_file(folder / "model.safetensors"))
        assert read_embedder_settings(folder) == read_embedder_settings(headed)
    assert torch.equal(load(tmp_path / "auto").encode(INPUTS), load(headed).encode(INPUTS))


def test_without_a_head_embedder_json_is_as_ever(tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert "head" not in json.loads((tiny_checkpoint / "embedder.json").read_text())
    embedder = load(tiny_checkpoint, "cpu")
    embedder.head = Head(torch.eye(32), torch.zeros(32))
    embedder.save(tmp_path)
    assert read_embedder_settings(tmp_path).head == BRIDGE
    torch.testing.assert_close(
        load(tmp_path, "cpu").encode(INPUTS), load(tiny_checkpoint, "cpu").encode(INPUTS)
    )


def test_moving_takes_the_head_along(headed: Path) -> None:
    embedder = load(headed, "cpu").to(torch.device("meta"))
    assert embedder.head is not None and embedder.head.weight.is_meta


def test_a_dropped_head_leaves_the_model_before_it(headed: Path, tiny_checkpoint: Path) -> None:
    assert drop_head(headed) == BRIDGE
    assert drop_head(headed) is None and not (headed / BRIDGE).exists()
    assert torch.equal(load(headed, "cpu").encode(INPUTS), load(tiny_checkpoint).encode(INPUTS))
    assert read_embedder_settings(headed) == read_embedder_settings(tiny_checkpoint)
    (headed / "embedder.json").unlink()
    assert drop_head(headed) is None


def change(key: str, edit: Callable[[torch.Tensor], Any]) -> Callable[[Path], None]:
    """A way to spoil one tensor of a head."""

    def spoil(path: Path) -> None:
        tensors = load_file(path)
        tensors[key] = edit(tensors[key])
        save_file(tensors, path)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "bridge.safetensors"),
        (lambda path: path.write_bytes(b"no"), "bridge.safetensors"),
        (lambda path: save_file({"weight": torch.ones(32, 24)}, path), "is no head"),
        (change("weight", lambda w: w.half()), "is no head"),
        (change("weight", lambda w: w[:, :-1].contiguous()), "is no head"),
        (change("weight", lambda w: w.flatten()), "is no head"),
        (lambda path: save_file({**load_file(path), "odd": torch.ones(1)}, path), "is no head"),
        (change("weight", lambda w: w[:-1].contiguous()), "maps 31 numbers to 24"),
        (change("weight", lambda w: w.index_fill(0, torch.tensor([3]), torch.nan)), "not finite"),
        (change("bias", lambda b: b * torch.inf), "holds a bias that is not finite"),
    ],
)
def test_a_broken_head_is_refused(headed: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(headed / BRIDGE)
    with pytest.raises(CheckpointError, match=says):
        load(headed, "cpu")


def test_a_head_of_another_length_than_promised_is_refused(headed: Path) -> None:
    path = headed / "embedder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dimension": 32}))
    with pytest.raises(CheckpointError, match="maps 32 numbers to 24"):
        load(headed, "cpu")


@pytest.mark.parametrize(
    "name", ["../bridge.safetensors", "a/b.safetensors", "/etc/passwd", "bridge.bin", "", 3, "."]
)
def test_a_head_outside_the_folder_or_of_another_kind_is_refused(
    headed: Path, name: object
) -> None:
    shutil.copy(headed / BRIDGE, headed.parent)
    path = headed / "embedder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"head": name}))
    with pytest.raises(CheckpointError, match="head"):
        load(headed, "cpu")


def test_a_link_out_of_the_folder_is_refused(headed: Path) -> None:
    outside = headed.parent / "other.safetensors"
    (headed / BRIDGE).rename(outside)
    (headed / BRIDGE).symlink_to(outside)
    with pytest.raises(CheckpointError, match="leads out of its checkpoint"):
        load(headed, "cpu")


def test_a_snapshot_in_a_hub_cache_has_its_head_behind_a_link(headed: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    expected = load(headed, "cpu").encode(INPUTS)
    shutil.copytree(headed, snapshot)
    (snapshot / BRIDGE).rename(blobs / "abc")
    (snapshot / BRIDGE).symlink_to("../../blobs/abc")
    assert torch.equal(load(snapshot, "cpu").encode(INPUTS), expected)


def test_info_says_what_plain_loaders_leave_out(headed: Path, tiny_checkpoint: Path) -> None:
    assert head_shape(headed, BRIDGE) == (32, 24)
    facts = dict(model_facts(headed))
    assert facts["dimension"] == "24"
    assert facts["head"].startswith("bridge.safetensors, 32 to 24: ")
    assert "plain AutoModel gives the vectors before it" in facts["head"]
    assert "head" not in dict(model_facts(tiny_checkpoint))
    (headed / BRIDGE).unlink()
    assert "is missing" in dict(model_facts(headed))["embeds"]


def test_what_prune_and_info_need_of_heads_leaves_torch_out() -> None:
    names = "head_file", "embedder_settings", "usage"
    code = "".join(f"import puma_cli.models.{name}\n" for name in names)
    code += "import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_code_on_the_card_applies_the_head(
    tiny_checkpoint: Path, headed: Path, tmp_path: Path
) -> None:
    plain = Path(shutil.copytree(tiny_checkpoint, tmp_path / "plain"))
    for folder in (plain, headed):
        write_card(folder, folder.name, summary="A test.", usage=usage_of(folder))
    assert "head" not in (plain / "README.md").read_text().split("```")[1]
    check_cards([plain, headed], tmp_path)
