"""What loaders need comes along; weights, other results and what is no plain file do not."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from puma_cli.errors import CheckpointError
from puma_cli.progress import Reporter
from puma_cli.pruning.writing.side_files import (
    copy_side_files,
    find_side_files,
    write_embedder_files,
)

TAKEN = {
    "LICENSE.txt",
    "MODEL_LICENCE",
    "NOTICE",
    "USE_POLICY.md",
    "additional_chat_templates/rag.jinja",
    "chat_template.jinja",
    "code/__init__.py",
    "code/deep/modeling.py",
    "embedder.json",
    "generation_config.json",
    "merges.txt",
    "modules.json",
    "processor_config.json",
    "tokenizer.model",
    "1_Pooling/config.json",
    "2_Dense/model.safetensors",
    "2_Dense/config.json",
}
LEFT = {
    ".cache/huggingface/trace.json",
    ".gitattributes",
    "README.md",
    "code/__pycache__/x.py",
    "config.json",
    "last/config.json",
    "model-00001-of-00002.safetensors",
    "model.onnx",
    "model.safetensors",
    "model.safetensors.index.fp32.json",
    "model.safetensors.index.json",
    "onnx/config.json",
    "onnx/model.onnx",
    "other/config.json",
    "other/puma.json",
    "picture.png",
    "puma.json",
    "pytorch_model.bin",
    "trainer_state.json",
    "training/settings.json",
}


class Notes(Reporter):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    folder = tmp_path / "parent"
    for name in TAKEN | LEFT:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    modules = [{"path": path, "type": "x"} for path in ("", "1_Pooling", "2_Dense")]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def copied(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_exactly_what_loaders_need_is_copied(parent: Path, tmp_path: Path) -> None:
    notes = Notes()
    names = copy_side_files(parent, tmp_path / "cut", notes)
    assert copied(tmp_path / "cut") == TAKEN == set(names)
    assert notes.notes == ["Left out: onnx/ (it holds weights of every layer)."]
    for name in TAKEN:
        assert (tmp_path / "cut" / name).read_bytes() == (parent / name).read_bytes()


def test_a_hub_snapshot_is_made_of_links_into_its_cache(parent: Path, tmp_path: Path) -> None:
    hub = tmp_path / "models--org--name"
    blobs, snapshot = hub / "blobs", hub / "snapshots" / "abc"
    shutil.copytree(parent, blobs)
    for name in TAKEN | LEFT:
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blobs / name, (snapshot / name).parent))
    copy_side_files(snapshot, tmp_path / "cut")
    assert copied(tmp_path / "cut") == TAKEN
    assert not any(path.is_symlink() for path in (tmp_path / "cut").rglob("*"))


def test_links_out_of_the_checkpoint_are_refused(parent: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (parent / "vocab.txt").symlink_to(secret)
    with pytest.raises(CheckpointError, match="leads out of its checkpoint"):
        copy_side_files(parent, tmp_path / "cut")
    (parent / "vocab.txt").unlink()
    (parent / "code" / "vocab.txt").symlink_to("vocab.txt")
    with pytest.raises(CheckpointError, match=r"vocab\.txt"):
        find_side_files(parent)


def test_linked_folders_are_not_followed(parent: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.json").write_text("{}")
    (parent / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (parent / "round").symlink_to(parent)
    copy_side_files(parent, tmp_path / "cut")
    assert copied(tmp_path / "cut") == TAKEN


def test_pipes_sockets_and_huge_files_stay(parent: Path, tmp_path: Path) -> None:
    os.mkfifo(parent / "vocab.json")
    with (parent / "data.json").open("wb") as file:
        file.truncate(600 * 2**20)
    with socket.socket(socket.AF_UNIX) as server:
        # A socket's path has to be short.
        here = os.open(parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/talk.json")
        os.close(here)
        left = dict(find_side_files(parent).left)
    assert left["vocab.json"] == left["talk.json"] == "not a regular file"
    assert left["data.json"].startswith("629 MB")


@pytest.mark.parametrize(
    "modules",
    [
        "{",
        "{}",
        "[" * 100_000,
        [{"path": "../other"}],
        [{"path": "/etc"}],
        [{"path": 3}],
        ["x"],
        [{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}],
    ],
)
def test_broken_modules_are_refused(parent: Path, modules: Any) -> None:
    text = modules if isinstance(modules, str) else json.dumps(modules)
    (parent / "modules.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"modules\.json"):
        find_side_files(parent)


def test_a_parents_head_stays_with_its_layers(parent: Path, tmp_path: Path) -> None:
    (parent / "embedder.json").write_text('{"head": "bridge.safetensors"}')
    (parent / "bridge.safetensors").write_text("x")
    notes = Notes()
    copy_side_files(parent, tmp_path / "cut", notes)
    assert not (tmp_path / "cut" / "bridge.safetensors").exists()
    assert any("bridge.safetensors (a head belongs to the layers" in text for text in notes.notes)


def test_a_model_that_puma_cannot_embed_with_stays_as_it_is(tmp_path: Path) -> None:
    parent, cut = tmp_path / "parent", tmp_path / "cut"
    for folder in (parent, cut):
        folder.mkdir()
    # Its tokenizer has a token that Qwen2-VL ends on, but its prompt is another.
    tokens = {"added_tokens": [{"content": "<|im_end|>"}]}
    (parent / "tokenizer.json").write_text(json.dumps(tokens))
    (parent / "config.json").write_text('{"model_type": "llava_onevision"}')
    assert not write_embedder_files(parent, cut)
    assert copied(cut) == set()
    (parent / "config.json").write_text('{"model_type": "qwen2_vl", "hidden_size": 8}')
    assert write_embedder_files(parent, cut)
    assert copied(cut) == {"embedder.json", "chat_template.jinja"}


def test_a_qwen2_vl_without_a_tokenizer_is_cut_all_the_same(tmp_path: Path) -> None:
    parent, cut = tmp_path / "parent", tmp_path / "cut"
    for folder in (parent, cut):
        folder.mkdir()
    (parent / "config.json").write_text('{"model_type": "qwen2_vl", "hidden_size": 8}')
    assert not write_embedder_files(parent, cut)
    assert copied(cut) == set()
