"""The proof passes what is right, to the bit, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from puma_cli.errors import DeviceError, VerificationError
from puma_cli.pruning.proof.parity import check_parity, fits_memory, memory_needed
from puma_cli.pruning.proof.stock_model import (
    base_class,
    decoder_layers,
    load_stock,
    read_transformers_config,
)
from tests.zoo import Zoo
from tests.zoo.cut import write_cut

FIRST = (0, 1, 2)
SOME = (0, 2, 5)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


def rewrite(folder: Path, change: Any) -> None:
    """Apply `change` to the tensors of a one-file checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("kept", "reference"),
    [(FIRST, "norm(h[3])"), (SOME, "skipped"), (tuple(range(6)), "norm(h[6])")],
)
def test_a_right_cut_is_bit_equal_in_its_own_dtype(
    dtype: str, kept: tuple[int, ...], reference: str, zoo: Zoo, tmp_path: Path
) -> None:
    parent = zoo.folder("qwen2_vl", dtype=dtype)
    write_cut(parent, tmp_path / "cut", kept)
    parity = check_parity(parent, tmp_path / "cut", kept)
    assert parity.bit_equal and parity.difference == 0.0
    assert parity.dtype == dtype
    assert parity.probes == ("text", "image", "image+text")
    assert reference in parity.reference
    assert parity.note == ""


@pytest.mark.parametrize("claimed", [(0, 1), (0, 2), (1, 2), (0, 1, 2, 3), (0, 1, 3)])
def test_other_layers_than_claimed_are_caught(
    claimed: tuple[int, ...], zoo: Zoo, tmp_path: Path
) -> None:
    parent = zoo.folder("llava")
    write_cut(parent, tmp_path / "cut", FIRST)
    with pytest.raises(VerificationError, match="differs from"):
        check_parity(parent, tmp_path / "cut", claimed)


@pytest.mark.parametrize(
    "weight",
    [
        "language_model.model.layers.1.mlp.down_proj.weight",
        "language_model.model.norm.weight",
        "vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias",
        "multi_modal_projector.linear_2.weight",
    ],
)
@pytest.mark.parametrize("value", [float("nan"), 9.0])
def test_one_changed_number_is_caught(weight: str, value: float, zoo: Zoo, tmp_path: Path) -> None:
    parent = zoo.folder("llava")
    write_cut(parent, tmp_path / "cut", FIRST)
    rewrite(tmp_path / "cut", lambda tensors: tensors[weight].view(-1)[:1].fill_(value))
    with pytest.raises(VerificationError, match="differs from"):
        check_parity(parent, tmp_path / "cut", FIRST)


def test_a_missing_weight_is_not_made_up(zoo: Zoo, tmp_path: Path) -> None:
    parent = zoo.folder("llava")
    write_cut(parent, tmp_path / "cut", FIRST)
    rewrite(tmp_path / "cut", lambda t: t.pop("multi_modal_projector.linear_2.weight"))
    with pytest.raises(VerificationError, match=r"lacks the weight `\S*linear_2\.weight"):
        check_parity(parent, tmp_path / "cut", FIRST)


def test_a_parent_that_computes_no_numbers_proves_nothing(zoo: Zoo, tmp_path: Path) -> None:
    parent = Path(shutil.copytree(zoo.folder("llama"), tmp_path / "parent"))
    rewrite(parent, lambda tensors: tensors["model.embed_tokens.weight"].fill_(float("nan")))
    write_cut(parent, tmp_path / "cut", FIRST)
    with pytest.raises(VerificationError, match="not finite"):
        check_parity(parent, tmp_path / "cut", FIRST)


def test_a_model_that_overflows_in_half_precision_is_compared_in_single(
    zoo: Zoo, tmp_path: Path
) -> None:
    parent = Path(shutil.copytree(zoo.folder("llama", dtype="float16"), tmp_path / "parent"))
    rewrite(parent, lambda t: t["model.layers.0.mlp.down_proj.weight"].mul_(60_000))
    write_cut(parent, tmp_path / "cut", FIRST)
    parity = check_parity(parent, tmp_path / "cut", FIRST)
    assert parity.bit_equal
    assert parity.dtype == "float32"
    assert "overflow in float16" in parity.note


def test_a_cast_cut_is_compared_in_the_dtype_it_has(zoo: Zoo, tmp_path: Path) -> None:
    parent = zoo.folder("llava_onevision")
    write_cut(parent, tmp_path / "cut", FIRST, dtype="bfloat16")
    parity = check_parity(parent, tmp_path / "cut", FIRST)
    assert parity.bit_equal
    assert parity.dtype == "bfloat16"


@pytest.mark.parametrize("name", ["qwen2", "glm4v_moe", "mllama"])
def test_files_of_dropped_layers_are_not_needed(name: str, zoo: Zoo, tmp_path: Path) -> None:
    source = zoo.folder(name, shards=12)
    whole = Path(shutil.copytree(source, tmp_path / "whole"))
    plan = write_cut(source, tmp_path / "cut", FIRST)
    needed = {move.entry.file.name for move in plan.moves}
    absent = [path for path in whole.glob("*.safetensors") if path.name not in needed]
    assert absent
    for path in absent:
        path.unlink()
    assert check_parity(whole, tmp_path / "cut", FIRST).bit_equal


def test_a_file_that_is_needed_is_missed(zoo: Zoo, tmp_path: Path) -> None:
    source = zoo.folder("qwen2", shards=12)
    write_cut(source, tmp_path / "cut", FIRST)
    whole = Path(shutil.copytree(source, tmp_path / "whole"))
    (whole / "model-00002-of-00012.safetensors").unlink()
    with pytest.raises(VerificationError, match="`whole` lacks the weight"):
        check_parity(whole, tmp_path / "cut", FIRST)


@pytest.mark.parametrize("kept", [FIRST, SOME])
@pytest.mark.parametrize("name", ["llava", "qwen3_vl_moe"])
def test_layers_beyond_the_cut_are_never_in_memory(
    name: str, kept: tuple[int, ...], zoo: Zoo
) -> None:
    folder = zoo.folder(name)
    config = read_transformers_config(folder)
    model, report = load_stock(base_class(config), folder, config, kept=kept)
    assert not report.missing
    owner, path = decoder_layers(model)
    for index, layer in enumerate(getattr(owner, path)):
        tensors = [*layer.parameters(), *layer.buffers()]
        assert bool(tensors) == (index in kept)
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_the_largest_value_decides_not_the_average(zoo: Zoo, tmp_path: Path) -> None:
    parent = zoo.folder("llama")
    write_cut(parent, tmp_path / "cut", FIRST)
    rewrite(
        tmp_path / "cut",
        lambda tensors: tensors["model.norm.weight"].view(-1)[:1].mul_(1 + 1e-3),
    )
    with pytest.raises(VerificationError, match="differs"):
        check_parity(parent, tmp_path / "cut", FIRST)
    write_cut(parent, tmp_path / "rounded", FIRST)
    rewrite(
        tmp_path / "rounded",
        lambda tensors: tensors["model.norm.weight"].view(-1)[:1].mul_(1 + 2e-7),
    )
    parity = check_parity(parent, tmp_path / "rounded", FIRST)
    assert not parity.bit_equal and 0 < parity.difference < 1e-5
    assert "not bit-equal" in parity.note


def test_a_family_whose_images_are_unknown_is_compared_by_text_and_says_so(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puma_cli.pruning.proof.image_kinds._KINDS", {})
    parent = zoo.folder("gemma3")
    write_cut(parent, tmp_path / "cut", FIRST)
    parity = check_parity(parent, tmp_path / "cut", FIRST)
    assert parity.probes == ("text",)
    assert "images not compared" in parity.note and "gemma3" in parity.note


def test_a_config_that_says_more_layers_than_there_are_does_not_pass(
    zoo: Zoo, tmp_path: Path
) -> None:
    parent = zoo.folder("qwen3")
    write_cut(parent, tmp_path / "cut", FIRST)
    path = tmp_path / "cut" / "config.json"
    config = json.loads(path.read_text())
    config["num_hidden_layers"] = 6
    path.write_text(json.dumps(config))
    with pytest.raises(VerificationError, match=r"lacks|does not open"):
        check_parity(parent, tmp_path / "cut", FIRST)


def test_an_unknown_device_is_an_error(zoo: Zoo, tmp_path: Path) -> None:
    parent = zoo.folder("llama")
    with pytest.raises(DeviceError):
        check_parity(parent, parent, tuple(range(6)), device="warp")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte")]
)
def test_a_lack_of_memory_is_no_fault_of_the_cut(
    error: Exception, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(transformers.LlamaModel, "forward", fail)
    parent = zoo.folder("llama")
    with pytest.raises(DeviceError, match="not enough memory"):
        check_parity(parent, parent, tuple(range(6)))


def test_memory_is_told_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    small = memory_needed(tmp_path)
    with (tmp_path / "more.safetensors").open("wb") as file:
        file.truncate(10**12)
    assert memory_needed(tmp_path) - small >= 10**12
    assert fits_memory(0) and not fits_memory(10**15)


def naive(folder: Path, kept: tuple[int, ...], probe: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what the whole model of a text family computes with only the layers `kept`."""
    model = transformers.AutoModel.from_pretrained(folder)
    model.layers = torch.nn.ModuleList([model.layers[index] for index in kept])
    model.config.num_hidden_layers = len(kept)
    with torch.inference_mode():
        states: torch.Tensor = model(**probe, use_cache=False).last_hidden_state
    return states


@pytest.mark.parametrize("kept", [FIRST, SOME, (5,), (1, 3, 4)])
def test_the_parents_side_is_its_layers_one_after_the_other(
    kept: tuple[int, ...], zoo: Zoo
) -> None:
    folder = zoo.folder("llama")
    config = read_transformers_config(folder)
    model, _ = load_stock(base_class(config), folder, config, kept=kept)
    probe = {"input_ids": torch.arange(10, 30)[None]}
    with torch.inference_mode():
        for _ in range(2):
            found = model(**probe, use_cache=False).last_hidden_state
            torch.testing.assert_close(found, naive(folder, kept, probe), rtol=0, atol=1e-5)
