"""Adapters over a Qwen2-VL, merged on the fly, against PEFT's own merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import Qwen2VLForConditionalGeneration

from puma_cli.checkpoint.inspection import inspect_folder
from puma_cli.checkpoint.source import resolve
from puma_cli.cli.app import run
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from tests.models.importing.builders import (
    build_tokenizer,
    save_image_processor,
    vision_model,
    write,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model of the class that adapters are trained over."""
    folder = tmp_path_factory.mktemp("chat") / "base"
    tokenizer = build_tokenizer(ends=False)
    inner = vision_model("qwen2_vl", tokenizer)
    whole: Any = Qwen2VLForConditionalGeneration(inner.config)
    whole.model.load_state_dict(inner.state_dict())
    whole.save_pretrained(folder, max_shard_size="60kB")
    tokenizer.save_pretrained(folder)
    save_image_processor(folder, 14)
    return folder


def train(base: Path, folder: Path, **options: Any) -> Any:
    """Write random adapters as PEFT does; return the network with them merged by PEFT."""
    from peft import LoraConfig, get_peft_model

    loader: Any = Qwen2VLForConditionalGeneration
    model = loader.from_pretrained(base, dtype=torch.float32)
    names = ["q_proj", "v_proj", "down_proj", "qkv", "fc1"]
    adapted: Any = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=16, target_modules=names, **options)
    )
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_magnitude" in name:
                value.mul_(1 + 0.3 * torch.rand(value.shape, generator=generator))
            elif "lora_" in name:
                value.normal_(0.0, 0.1, generator=generator)
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload().eval()


@torch.no_grad()
def plain(network: Any, folder: Path, inputs: list[Input]) -> torch.Tensor:
    """Embed with PEFT's network, of prompts that are written out."""
    model = load(folder, "cpu")
    rows = []
    for entry in inputs:
        said = (entry.text or "") if entry.image is None else f"<|image_pad|> {entry.text}"
        (prompt,) = model.processor.render([entry])
        assert prompt == said
        batch = model.collate([entry])
        more = {}
        if batch.pixel_values is not None:
            more = {"pixel_values": batch.pixel_values, "image_grid_thw": batch.image_grid}
        out = network.model(
            input_ids=batch.input_ids, mm_token_type_ids=batch.token_types, **more
        ).last_hidden_state
        rows.append(normalize(out[0, -1], dim=-1))
    return torch.stack(rows)


@pytest.mark.parametrize(
    "options",
    [{}, {"use_dora": True}, {"use_rslora": True, "alpha_pattern": {"v_proj": 3}}],
    ids=["lora", "dora", "patterns"],
)
def test_merged_vectors_are_those_of_peft(
    base: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    network = train(base, tmp_path / "adapter", **options)
    picture = tmp_path / "a.png"
    Image.linear_gradient("L").convert("RGB").resize((80, 60)).save(picture)
    inputs = [Input("a red square"), Input("What is it?", picture), Input("x")]
    expected = plain(network, tmp_path / "adapter", inputs)
    found = load(tmp_path / "adapter", "cpu").encode(inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)
    assert not torch.allclose(found, load(base, "cpu").encode(inputs), atol=1e-2)
    # Once: the second time it is in the cache.
    folder = resolve(tmp_path / "adapter")
    before = (folder / "config.json").stat().st_mtime_ns
    assert resolve(tmp_path / "adapter") == folder
    assert (folder / "config.json").stat().st_mtime_ns == before


def test_adapters_are_cut_trained_and_exported(
    base: Path, tmp_path: Path, tiny_scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(base, tmp_path / "adapter", use_dora=True)
    assert dict(inspect_folder("adapter").facts)["adapters over"] == str(base)
    quick = ("--steps", "1", "--batch-size", "4", "--device", "cpu")
    for words in (
        ("prune", "adapter", "--keep", "2", "-o", "cut"),
        ("distill", "cut", "--teacher", "adapter", "--data", str(tiny_scenes), "-o", "student",
         *quick, "--set", "train.validation_limit=2"),
        ("export", "student", "-o", "out", "--format", "transformers"),
    ):  # fmt: skip
        assert run(list(words)) == 0
    student, out = load("student", "cpu"), load("out", "cpu")
    assert student.settings == settings_for(resolve("adapter")) and student.depth == 2
    assert torch.equal(out.encode([Input("a")]), student.encode([Input("a")]))
    (check,) = json.loads((tmp_path / "out" / "parity.json").read_text())["checks"]
    assert len(check["cases"]) == 18 and not check["unchecked"]
    assert all(parent.state == "unchanged" for parent in inspect_folder("cut").parents)


def test_adapters_of_another_base_are_refused(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    train(base, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(key for key in tensors if "layers.5" in key and "q_proj.lora_B" in key)
    save_file(tensors | {name: tensors[name][:-2].clone()}, path)
    with pytest.raises(CheckpointError, match="do not fit their base"):
        load(tmp_path / "adapter", "cpu")
    moved = {key.replace("layers.5.", "layers.9."): value for key, value in tensors.items()}
    save_file(moved, path)
    with pytest.raises(CheckpointError, match=r"has no weight layers\.9\."):
        load(tmp_path / "adapter", "cpu")
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(CheckpointError, match="half an adapter"):
        load(tmp_path / "adapter", "cpu")
    save_file({"base_model.model.lm_head.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="no adapter of a linear layer"):
        load(tmp_path / "adapter", "cpu")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base_model_name_or_path": "nowhere/at-all"}, "is not to be had: nowhere/at-all"),
        ({"base_model_name_or_path": None}, "does not name its base"),
        ({"peft_type": "IA3"}, "of the kind IA3"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "trained biases"),
    ],
)
def test_adapters_that_puma_cannot_merge_are_refused(
    base: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    train(base, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    write(path, json.loads(path.read_text()) | changes)
    with pytest.raises(CheckpointError, match=says):
        load(tmp_path / "adapter", "cpu")
