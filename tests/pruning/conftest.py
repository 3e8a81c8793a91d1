"""One tiny random model in each form in which stock checkpoints lie on disks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
)

from puma_cli.checkpoint.shard_index import weight_files

FORMS = ("base", "half", "sharded", "untied", "tied", "flat", "stock", "newer")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a folder by their names on disk."""
    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        tensors.update(load_file(file))
    return tensors


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Apply `change` to the object in a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _generation(tiny: Path, folder: Path, tied: bool) -> None:
    """Save as the generation class does: `model.*`, `visual.*` and, untied, `lm_head`."""
    base = AutoModel.from_pretrained(tiny)
    config = base.config
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(config)
    model.model.load_state_dict(base.state_dict())
    if tied:
        model.tie_weights()
    model.save_pretrained(folder)


def _newer(tiny: Path, folder: Path) -> None:
    """Save a Qwen2.5-VL with the decoder's sizes of the tiny checkpoint, as stock ones are."""
    config = json.loads((tiny / "config.json").read_text(encoding="utf-8"))
    text = config["text_config"]
    text.pop("model_type")
    width = text["hidden_size"]
    vision = {"hidden_size": width, "out_hidden_size": width, "intermediate_size": 2 * width}
    vision |= {"depth": 2, "num_heads": 2, "fullatt_block_indexes": [1]}
    ids = {name: value for name, value in config.items() if name.endswith("_token_id")}
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    )
    model.save_pretrained(folder)


def _flatten(config: dict[str, Any]) -> None:
    """Turn a config into the older form, whose text fields are at the root."""
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text.pop("model_type")
    text.pop("layer_types", None)
    config.update(text)
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}


@pytest.fixture(scope="session")
def parents(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> dict[str, Path]:
    """The folders of all forms, by name; not to be written to."""
    root = tmp_path_factory.mktemp("parents")
    folders = {form: Path(shutil.copytree(tiny_checkpoint, root / form)) for form in FORMS}
    for name in ("half", "sharded"):
        (folders[name] / "model.safetensors").unlink()
    model = AutoModel.from_pretrained(tiny_checkpoint)
    model.save_pretrained(folders["sharded"], max_shard_size="60KB")
    half = model.half()
    half.config.dtype = torch.float16
    half.save_pretrained(folders["half"])
    for name in ("untied", "tied", "flat"):
        _generation(tiny_checkpoint, folders[name], tied=name != "untied")
    edit_json(folders["flat"] / "config.json", _flatten)
    _newer(tiny_checkpoint, folders["newer"])
    # A stock checkpoint knows nothing of embedding and allows large images.
    (folders["stock"] / "embedder.json").unlink()
    edit_json(
        folders["stock"] / "preprocessor_config.json",
        lambda c: c.update(size={"shortest_edge": 3136, "longest_edge": 12_845_056}),
    )
    return folders


@pytest.fixture(params=FORMS)
def parent(request: pytest.FixtureRequest, parents: dict[str, Path]) -> Path:
    """Each form in turn; not to be written to."""
    return parents[request.param]


@pytest.fixture
def parent_copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may spoil."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "parent"))


@pytest.fixture
def sharded(parents: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the sharded parent that a test may spoil."""
    return Path(shutil.copytree(parents["sharded"], tmp_path / "parent"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder to write to."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"
