"""Missing, unexpected and misshapen weights are told from headers alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config

from puma_cli.errors import VerificationError
from puma_cli.pruning.proof.key_check import check_keys, report_keys
from tests.zoo import FAMILIES, Zoo

GIGABYTE = 10**9


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


def changed(source: Path, folder: Path, **changes: torch.Tensor | None) -> Path:
    """Write a copy of a one-file checkpoint with tensors added, replaced or, if None, left out."""
    tensors = {**load_file(source / "model.safetensors"), **changes}
    folder.mkdir()
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors")
    (folder / "config.json").write_text((source / "config.json").read_text())
    return folder


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_each_family_is_complete_as_it_lies_on_disk(name: str, head: bool, zoo: Zoo) -> None:
    check_keys(zoo.folder(name, head=head))


@pytest.mark.parametrize(
    ("name", "vision"),
    [
        ("qwen2_vl", "visual.blocks.0.attn.proj.weight"),
        ("qwen2_vl_in_memory", "model.visual.blocks.0.attn.proj.weight"),
        ("llava", "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"),
        ("mllama", "multi_modal_projector.weight"),
        ("qwen3_vl_moe", "model.language_model.layers.0.mlp.experts.down_proj"),
    ],
)
def test_faults_are_named(name: str, vision: str, zoo: Zoo, tmp_path: Path) -> None:
    source = zoo.folder(name)
    with pytest.raises(VerificationError, match="lacks the weight"):
        check_keys(changed(source, tmp_path / "lacking", **{vision: None}))
    extra = {f"{vision}.extra": torch.zeros(1)}
    with pytest.raises(VerificationError, match=r"unexpected weight `[\w.]*extra"):
        check_keys(changed(source, tmp_path / "more", **extra))
    with pytest.raises(VerificationError, match=r"misshapen|does not open"):
        check_keys(changed(source, tmp_path / "misshapen", **{vision: torch.zeros(3, 3)}))


def test_the_class_that_the_config_names_counts(zoo: Zoo, tmp_path: Path) -> None:
    folder = changed(zoo.folder("llama"), tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["LlamaModel"]
    (folder / "config.json").write_text(json.dumps(config))
    assert report_keys(folder).unexpected == ("lm_head.weight",)
    # A name that transformers does not know, and none at all, stand for AutoModel.
    for architectures in (["NoSuchModel"], None):
        config["architectures"] = architectures
        (folder / "config.json").write_text(json.dumps(config))
        assert report_keys(folder).unexpected == ("lm_head.weight",)


def test_what_the_parents_class_leaves_lying_too_is_let_pass(zoo: Zoo, tmp_path: Path) -> None:
    idle = {"model.layers.1.self_attn.idle": torch.zeros(1)}
    parent = changed(zoo.folder("llama"), tmp_path / "parent", **idle)
    same = changed(zoo.folder("llama"), tmp_path / "same", **idle)
    other = changed(zoo.folder("llama"), tmp_path / "other", idle=torch.zeros(1), **idle)
    check_keys(same, parent=parent)
    with pytest.raises(VerificationError, match=r"unexpected weight `model\.layers\.1"):
        check_keys(same)
    with pytest.raises(VerificationError, match="unexpected weight `idle"):
        check_keys(other, parent=parent)


def test_what_transformers_cannot_open_is_said_so(zoo: Zoo, tmp_path: Path) -> None:
    folder = changed(zoo.folder("llama"), tmp_path / "broken")
    for content in ("{}", "no json", json.dumps({"model_type": "no_such_type"})):
        (folder / "config.json").write_text(content)
        with pytest.raises(VerificationError, match="does not open"):
            check_keys(folder)
    (folder / "config.json").write_text((zoo.folder("llama") / "config.json").read_text())
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(VerificationError, match="does not open"):
        check_keys(folder)


def test_an_index_that_promises_more_than_the_files_hold_is_caught(
    zoo: Zoo, tmp_path: Path
) -> None:
    source = zoo.folder("qwen2", shards=3)
    check_keys(source)
    folder = tmp_path / "cut"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.more"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(VerificationError, match=r"promises the weight `model\.more`"):
        check_keys(folder)
    # A file that is not there is a lack of weights here, where everything must be.
    content["weight_map"].pop("model.more")
    index.write_text(json.dumps(content))
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(VerificationError, match="lacks the weight"):
        check_keys(folder)


def test_only_headers_are_read(tmp_path: Path) -> None:
    config = Qwen2Config(
        vocab_size=100_000,
        hidden_size=4096,
        intermediate_size=16_384,
        num_hidden_layers=30,
        num_attention_heads=32,
        num_key_value_heads=32,
        architectures=["Qwen2Model"],
    )
    with torch.device("meta"):
        tensors = transformers.Qwen2Model(config).state_dict()
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    assert end > 30 * GIGABYTE
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        # Thirty gigabytes that take no space; reading them would take minutes and all memory.
        os.truncate(file.fileno(), 8 + len(text) + end)
    config.save_pretrained(tmp_path)
    check_keys(tmp_path)
