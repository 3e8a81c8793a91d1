"""Adapters: where they go, what they are by themselves, and over which weights they train."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import DistillSettings, LossSettings, TrainSettings
from puma_cli.distillation.distill import distill
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.running import base_dtype, teacher_dtype
from puma_cli.errors import ConfigError
from puma_cli.interruption import Stopped
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from tests.distillation.test_distill import SignalAt
from tests.distillation.test_pair import cut
from tests.headed import add_head

LORA = LoraSettings(rank=4, alpha=8, dropout=0.1, keep_adapter=True)
INPUTS = [Input(text="small red circle"), Input(text="on white", instruction="Find it.")]
ALL = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def adapted(folder: Path, *targets: str) -> set[str]:
    """The names within a layer that carry an adapter."""
    lora = LoraSettings(rank=2, targets=targets)
    pair = Pair(cut(folder, [0, 1]), None, [0, 1], lora, TrainSettings())
    names = [name for name, value in pair.model.named_parameters() if value.requires_grad]
    assert all(".layers." in name and "lora_" in name for name in names)
    layers: dict[str, set[str]] = {"0": set(), "1": set()}
    for name in names:
        layer, _, rest = name.rpartition("layers.")[2].partition(".")
        layers[layer].add(rest.partition(".lora_")[0])
    assert layers["0"] == layers["1"]
    return layers["0"]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("all",), ALL),
        (("q_proj", "v_proj"), {"q_proj", "v_proj"}),
        (("self_attn.o_proj",), {"o_proj"}),
    ],
)
def test_adapters_go_where_they_are_asked_to(
    tiny_checkpoint: Path, targets: tuple[str, ...], expected: set[str]
) -> None:
    assert {name.rpartition(".")[2] for name in adapted(tiny_checkpoint, *targets)} == expected


@pytest.mark.parametrize("name", ["qkv_proj", "proj", "mlp", "visual", "all"])
def test_a_target_that_is_no_layer_is_answered_with_those_there_are(
    tiny_checkpoint: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=repr(name)) as caught:
        adapted(tiny_checkpoint, "q_proj", name)
    assert all(there in caught.value.cause for there in ALL)


def with_adapter(base: Path, adapter: Path) -> Embedder:
    """A checkpoint with an adapter that stock PEFT puts on it."""
    embedder = load(base, "cpu")
    stock: Any = PeftModel.from_pretrained(embedder.model, str(adapter))
    assert stock.peft_config["default"].base_model_name_or_path == str(base)
    embedder.model = stock.base_model.model
    return embedder


@pytest.mark.parametrize("base", ["float32", "bfloat16"])
@pytest.mark.parametrize("row", [False, True])
def test_a_kept_adapter_on_the_cut_gives_the_vectors_of_the_merged_model(
    settings: DistillSettings, pruned: Path, tmp_path: Path, row: bool, base: str
) -> None:
    whole = replace(
        settings,
        lora=replace(LORA, base_dtype=base),
        optimizer=replace(settings.optimizer, learning_rate=1e-2),
        train=replace(settings.train, train_embed_token=row),
        output_dir=tmp_path / "whole",
    )
    distill(whole)
    parts = replace(whole, output_dir=tmp_path / "parts")
    with pytest.raises(Stopped):
        distill(parts, SignalAt(4, signal.SIGTERM))
    assert distill(replace(parts, resume=True)).finished
    before = load(pruned, "cpu").encode(INPUTS)
    for name in (".", "last"):
        folder = whole.output_dir / name
        merged = load(folder, "cpu").encode(INPUTS)
        assert float((merged - before).abs().max()) > 1e-2
        again = with_adapter(pruned, folder / "adapter").encode(INPUTS)
        torch.testing.assert_close(again, merged, rtol=0, atol=1e-6)
        for file in ("model.safetensors", "adapter/adapter_model.safetensors"):
            one, two = load_file(folder / file), load_file(parts.output_dir / name / file)
            assert one.keys() == two.keys()
            assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.filterwarnings("error::FutureWarning")
def test_nothing_warns_of_what_no_user_can_change(settings: DistillSettings) -> None:
    train = replace(settings.train, steps=1, checkpoint_activations=True, validation_limit=0)
    assert distill(replace(settings, train=train, lora=LoraSettings(rank=2))).finished


def test_over_weights_in_bfloat16_the_output_keeps_the_digits_of_the_student(
    settings: DistillSettings, pruned: Path
) -> None:
    """What is not adapted is copied exactly; what is, moved by the adapter's product alone."""
    lora = replace(LORA, base_dtype="bfloat16", targets=("q_proj",))
    distill(replace(settings, lora=lora, train=replace(settings.train, steps=2)))
    before = load_file(pruned / "model.safetensors")
    after = load_file(settings.output_dir / "last" / "model.safetensors")
    adapter = load_file(settings.output_dir / "last" / "adapter" / "adapter_model.safetensors")
    for name, value in after.items():
        expected = before[name]
        if "q_proj.weight" in name:
            stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
            product = adapter[f"{stem}B.weight"] @ adapter[f"{stem}A.weight"]
            assert product.any()
            expected = expected + 8 / 4 * product
        assert value.dtype is torch.float32
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)


def test_one_copy_in_bfloat16_serves_student_and_teacher(tiny_checkpoint: Path) -> None:
    pairs = []
    for dtype in (torch.float32, torch.bfloat16):
        student = cut(tiny_checkpoint, [0, 1])
        student.model.to(dtype)
        teacher = load(tiny_checkpoint, "cpu", "bfloat16")
        pairs.append(Pair(student, teacher, [0, 1], LORA, TrainSettings()))
    apart, pair = pairs
    assert pair.shared and not apart.shared
    assert {value.dtype for value in pair.trained()} == {torch.float32}
    assert pair.embedder.dtype is torch.bfloat16


def test_a_headed_student_keeps_its_trained_head_over_weights_in_bfloat16(
    settings: DistillSettings, pruned: Path, tmp_path: Path
) -> None:
    student = add_head(pruned, tmp_path / "headed")
    lora = replace(LORA, base_dtype="bfloat16")
    distill(replace(settings, student=str(student), lora=lora))
    before, after = load(student, "cpu"), load(settings.output_dir / "last", "cpu")
    assert before.head is not None and after.head is not None
    assert not torch.equal(before.head.weight, after.head.weight)
    stock = with_adapter(student, settings.output_dir / "last" / "adapter")
    stock.head = after.head
    torch.testing.assert_close(stock.encode(INPUTS), after.encode(INPUTS), rtol=0, atol=1e-6)


def test_a_fading_head_and_smaller_images_are_as_over_weights_in_float32(
    settings: DistillSettings, pruned: Path, tmp_path: Path
) -> None:
    lora = replace(LORA, base_dtype="bfloat16")
    limited = replace(
        settings,
        student=str(add_head(pruned, tmp_path / "headed")),
        lora=lora,
        batch=replace(settings.batch, max_pixels=28 * 28),
        train=replace(settings.train, fade_head=True),
    )
    distill(limited)
    found = load(settings.output_dir, "cpu")
    assert found.head is None and found.settings.head is None
    assert found.settings.max_pixels == 28 * 28


def test_the_formats_of_what_does_not_train(settings: DistillSettings) -> None:
    def formats(cached: bool = False, teacher: str = "auto", **lora: Any) -> tuple[str, str]:
        train = replace(settings.train, cache_teacher=cached, teacher_dtype=teacher)
        chosen = replace(settings, lora=LoraSettings(**lora), train=train)
        return base_dtype(chosen), teacher_dtype(chosen)

    assert formats() == ("float32", "float32")
    assert formats(rank=4, base_dtype="bfloat16") == ("bfloat16", "bfloat16")
    assert formats(True, rank=4, base_dtype="bfloat16") == ("bfloat16", "float32")
    assert formats(True, "bfloat16", rank=4, quantize="nf4") == ("float32", "bfloat16")


def test_a_cached_teacher_in_bfloat16_reads_few_inputs_at_a_time(
    settings: DistillSettings, tmp_path: Path
) -> None:
    """Its vectors are near those in float32, and are kept apart from them."""
    cache = tmp_path / "cache"
    found = {}
    for dtype in ("float32", "bfloat16"):
        train = replace(
            settings.train, steps=1, validation_limit=0, cache_teacher=True, cache_dir=str(cache),
            teacher_dtype=dtype, encode_batch=3,
        )  # fmt: skip
        known = set(cache.glob("*/*.safetensors"))
        for name in ("first", "second"):
            distill(replace(settings, train=train, output_dir=tmp_path / f"{dtype}-{name}"))
        (file,) = set(cache.glob("*/*.safetensors")) - known
        found[dtype] = load_file(file)
    assert torch.equal(found["float32"]["keys"], found["bfloat16"]["keys"])
    fine, coarse = found["float32"]["vectors"], found["bfloat16"]["vectors"]
    assert not torch.equal(fine, coarse)
    assert float(torch.cosine_similarity(fine, coarse).min()) > 0.999


@pytest.mark.parametrize(
    ("lora", "train", "complaint"),
    [
        ({"quantize": "nf4"}, {}, r"lora\.quantize is nf4, but there are no adapters"),
        ({"base_dtype": "bfloat16"}, {}, r"lora\.base_dtype is bfloat16, but"),
        ({"keep_adapter": True}, {}, r"lora\.keep_adapter is True, but"),
        ({"targets": ("q_proj", "v_proj")}, {}, r"lora\.targets is q_proj,v_proj, but"),
        ({"rank": 4, "targets": ()}, {}, r"lora\.targets is empty"),
        ({"rank": 4}, {"train_embeddings": True}, "beside adapters: lora.rank is 4"),
        ({"rank": 4}, {"freeze_vision": False}, "is false beside adapters"),
        ({}, {"train_embeddings": True, "train_embed_token": True}, "are both set"),
        ({"rank": 4, "quantize": "nf4"}, {}, "is nf4, and the teacher is not cached"),
        ({"rank": 4, "quantize": "int8"}, {}, "must be one of none, nf4"),
        ({"rank": 4, "base_dtype": "bfloat16"}, {"strategy": "fsdp2"}, "are in bfloat16"),
    ],
)
def test_what_does_not_go_together_is_refused(
    settings: DistillSettings, lora: dict[str, Any], train: dict[str, Any], complaint: str
) -> None:
    wrong = replace(settings, lora=LoraSettings(**lora), train=replace(settings.train, **train))
    with pytest.raises(ConfigError, match=complaint):
        distill(wrong)
    assert not settings.output_dir.exists()


def test_no_adapter_is_kept_for_a_model_that_does_not_stay(settings: DistillSettings) -> None:
    new = replace(settings, student="fresh", teacher="none", loss=LossSettings(), lora=LORA)
    with pytest.raises(ConfigError, match="keep_adapter is set for the student 'fresh'"):
        distill(new)
