"""Adapters over weights in 4 bits: what trains, what is written, and what is refused."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from puma_cli.config.loading import load_settings
from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import DistillSettings, LossSettings, TrainSettings
from puma_cli.distillation.checks import check_training
from puma_cli.distillation.distill import distill
from puma_cli.distillation.pair import Pair
from puma_cli.errors import ConfigError
from puma_cli.interruption import Stopped
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.opening import load
from tests.distillation.test_distill import SignalAt
from tests.distillation.test_embed_token import token_of

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)

TABLE = "language_model.embed_tokens.weight"
LORA = LoraSettings(rank=4, alpha=8, dropout=0.1, quantize="nf4", keep_adapter=True)
INPUTS = [Input(text="small red circle"), Input(text="on white", instruction="Find it.")]

# The 16 numbers of NormalFloat4 (QLoRA, appendix E).
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny_checkpoint(wide_checkpoint: Path) -> Path:
    """One whose rows fill whole blocks of 64, in place of the one that other tests use."""
    return wide_checkpoint


def rounded(weight: Tensor) -> Tensor:
    """The nearest NormalFloat4 multiples of the largest number in every block of 64."""
    blocks = weight.flatten().view(-1, 64)
    scales = blocks.abs().amax(dim=1, keepdim=True)
    codes = torch.tensor(NF4)
    nearest = (blocks / scales).unsqueeze(-1).sub(codes).abs().argmin(dim=-1)
    return (codes[nearest] * scales).view_as(weight)


def linears(embedder: Embedder) -> dict[str, Any]:
    """The linear layers of the decoder, by name."""
    named = embedder.decoder.layers.named_modules()
    return {name: module for name, module in named if name.endswith("_proj")}


@needs_bitsandbytes
def test_the_decoders_linears_are_in_four_bits_and_all_else_is_as_it_was(pruned: Path) -> None:
    plain, packed = load(pruned, "cpu"), load(pruned, "cpu", "float32", "nf4")
    whole = linears(plain)
    for name, module in linears(packed).items():
        assert module.weight.dtype is torch.uint8
        assert module.weight.numel() * 2 == whole[name].weight.numel()
        # A column of the layer's matrix is what it makes of a unit vector.
        with torch.no_grad():
            found = module(torch.eye(module.in_features)).T
            if module.bias is not None:
                found = found - module.bias.unsqueeze(1)
        expected = rounded(whole[name].weight.detach())
        # Scales are rounded once more, to 8 bits among each other.
        scale = float(whole[name].weight.detach().abs().max())
        assert float((found - expected).abs().max()) < 0.02 * scale
    ours, theirs = packed.model.state_dict(), plain.model.state_dict()
    others = [name for name in theirs if "_proj.weight" not in name]
    assert any("visual" in name for name in others)
    assert all(torch.equal(ours[name], theirs[name]) for name in others)


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_evaluation_changes_no_digit_of_what_a_training_sees(pruned: Path, dtype: str) -> None:
    packed = load(pruned, "cpu", dtype, "nf4")
    batch = packed.collate(INPUTS)
    packed.model.train()
    with torch.no_grad():
        before = packed.embed(batch)
        with evaluation_mode(packed.model):
            packed.embed(batch)
        assert torch.equal(packed.embed(batch), before)


def with_adapter(base: Embedder, adapter: Path) -> Embedder:
    stock: Any = PeftModel.from_pretrained(base.model, str(adapter))
    base.model = stock.base_model.model
    return base


@needs_bitsandbytes
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_training_over_four_bits_writes_a_stock_checkpoint_in_full_precision(
    settings: DistillSettings, pruned: Path, tmp_path: Path, device: str
) -> None:
    whole = replace(
        settings,
        lora=LORA,
        optimizer=replace(settings.optimizer, learning_rate=1e-2),
        train=replace(
            settings.train, cache_teacher=True, train_embed_token=True, deterministic=True
        ),
        output_dir=tmp_path / "whole",
        device=device,
    )
    assert distill(whole).finished
    parts = replace(whole, output_dir=tmp_path / "parts")
    with pytest.raises(Stopped, match="after step 4 of 6"):
        distill(parts, SignalAt(4, signal.SIGTERM))
    assert distill(replace(parts, resume=True)).finished
    before = load_file(pruned / "model.safetensors")
    for name in (".", "last"):
        folder = whole.output_dir / name
        after, again = (
            load_file(each / name / "model.safetensors")
            for each in (whole.output_dir, parts.output_dir)
        )
        assert after.keys() == again.keys() == before.keys()
        assert all(torch.equal(after[key], again[key]) for key in after)
        assert "quantization" not in (folder / "config.json").read_text()
        adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
        for key, value in after.items():
            expected = before[key]
            if "_proj.weight" in key and "visual" not in key:
                stem = f"base_model.model.{key.removesuffix('.weight')}.lora_"
                product = adapter[f"{stem}B.weight"] @ adapter[f"{stem}A.weight"]
                assert product.any()
                expected = expected + 8 / 4 * product
            if key == TABLE:
                changed = (value != expected).any(dim=1).nonzero().flatten()
                assert changed.tolist() == [token_of(load(pruned, "cpu"))]
            else:
                torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)
        merged = load(folder, "cpu").encode(INPUTS)
        stock = with_adapter(load(pruned, "cpu"), folder / "adapter").encode(INPUTS)
        torch.testing.assert_close(stock, merged, rtol=0, atol=1e-6)
        # Over the 4-bit weights they were trained with, the vectors are others.
        coarse = with_adapter(load(pruned, "cpu", "float32", "nf4"), folder / "adapter")
        assert float((coarse.encode(INPUTS) - merged).abs().max()) > 1e-3


@needs_bitsandbytes
def test_only_adapters_have_gradients_and_moments(pruned: Path) -> None:
    pair = Pair(load(pruned, "cpu", "float32", "nf4"), None, None, LORA, TrainSettings())
    batch = pair.embedder.collate(INPUTS)
    pair.embed(batch, None, with_teacher=False)[0].sum().backward()
    found = {n: p for n, p in pair.model.named_parameters() if p.grad is not None}
    assert len(found) == 2 * 7 * 2 and all("lora_" in name for name in found)
    assert any(p.grad.any() for p in found.values() if p.grad is not None)


@needs_bitsandbytes
def test_over_four_bits_the_teacher_teaches_in_full(
    settings: DistillSettings, tmp_path: Path
) -> None:
    """Its cached vectors are those that a training of all weights learns from."""
    for name, lora in (("full", LoraSettings()), ("packed", LORA)):
        train = replace(settings.train, steps=2, cache_teacher=True, cache_dir=str(tmp_path / name))
        distill(replace(settings, lora=lora, train=train, output_dir=tmp_path / f"out-{name}"))
    full, packed = (next((tmp_path / name).rglob("*.safetensors")) for name in ("full", "packed"))
    assert full.relative_to(tmp_path / "full") == packed.relative_to(tmp_path / "packed")
    assert full.read_bytes() == packed.read_bytes()


@needs_bitsandbytes
def test_the_recipe_trains_a_tiny_model(settings: DistillSettings) -> None:
    """As it ships, but for the numbers of queries, steps and inputs."""
    chosen = load_settings(
        DistillSettings,
        config="qlora-24gb",
        overrides=["train.steps=4", "train.validate_every=2", "train.validation_limit=2"],
        flags={
            "student": settings.student,
            "teacher": settings.teacher,
            "data": settings.data,
            "output_dir": settings.output_dir,
            "device": "cpu",
            "batch.size": 8,
            "batch.chunk_tokens": 100,
        },
    )
    assert chosen.lora.quantize == "nf4" and chosen.train.cache_teacher
    assert distill(chosen).finished
    written = load_file(settings.output_dir / "model.safetensors")
    assert {value.dtype for value in written.values()} == {torch.bfloat16}
    assert (settings.output_dir / "log.jsonl").read_text().count('"chunks"')
    assert load(settings.output_dir, "cpu").depth == 2


def test_a_teacher_that_is_a_folder_of_embeddings_is_as_good_as_cached(
    settings: DistillSettings, tmp_path: Path
) -> None:
    for table in ("queries", "candidates"):
        (tmp_path / f"{table}.npy").touch()
    with pytest.raises(ConfigError, match="is not cached"):
        check_training(replace(settings, lora=LORA))
    check_training(replace(settings, lora=LORA, teacher=str(tmp_path)))


def test_without_bitsandbytes_one_is_told_what_to_install(
    settings: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    contrastive = replace(settings, teacher="none", loss=LossSettings(), lora=LORA)
    with pytest.raises(ConfigError, match="bitsandbytes is not installed") as caught:
        distill(contrastive)
    assert "pip install 'puma-cli[qlora]'" in caught.value.hint
    assert not settings.output_dir.exists()


@needs_bitsandbytes
def test_a_bitsandbytes_that_cannot_is_named_with_its_reason(
    pruned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsandbytes import functional

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(functional, "quantize_4bit", refuse)
    with pytest.raises(ConfigError, match="does not work on cpu here") as caught:
        load(pruned, "cpu", "float32", "nf4")
    assert "no kernel for this device" in caught.value.cause


@needs_bitsandbytes
def test_layers_that_lose_more_than_rounding_are_refused(
    pruned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As releases do on CPUs whose rows are no multiple of a block."""
    from bitsandbytes import functional

    plain = functional.dequantize_4bit

    def shifted(*args: Any, **kwargs: Any) -> Tensor:
        return plain(*args, **kwargs).roll(1)

    monkeypatch.setattr(functional, "dequantize_4bit", shifted)
    with pytest.raises(ConfigError, match="mixes up layers of width 64 on cpu"):
        load(pruned, "cpu", "float32", "nf4")
