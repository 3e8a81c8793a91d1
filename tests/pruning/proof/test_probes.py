"""Made-up inputs are what each family takes, and every part of them counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

from puma_cli.models.quiet import quiet_transformers
from puma_cli.pruning.proof.image_kinds import image_kind, image_token
from puma_cli.pruning.proof.probes import Probe, make_probes
from tests.zoo import FAMILIES, MULTIMODAL, Zoo


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


def states(model: Any, probe: Probe, **changes: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        output = model(**{**probe.inputs, **changes}, use_cache=False, output_hidden_states=True)
    found: torch.Tensor = output.hidden_states[-1]
    return found


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_words_and_pixels_both_change_what_a_stock_model_computes(name: str, zoo: Zoo) -> None:
    config = AutoConfig.from_pretrained(zoo.folder(name))
    with quiet_transformers():
        model = getattr(transformers, FAMILIES[name].generation).from_pretrained(zoo.folder(name))
    probes = {probe.name: probe for probe in make_probes(config)}
    expected = {"text", "image", "image+text"} if name in MULTIMODAL else {"text"}
    assert set(probes) == expected
    for probe in probes.values():
        before = states(model, probe)
        assert torch.isfinite(before).all()
        for key, value in probe.inputs.items():
            if "pixel_values" in key:
                moved = states(model, probe, **{key: -value})
                assert (moved - before).abs().max() > 0.01 * before.abs().max()
    ids = probes["text"].inputs["input_ids"]
    moved = states(model, probes["text"], input_ids=ids.roll(1))
    assert (moved - states(model, probes["text"])).abs().max() > 0.1


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_probes_are_the_same_each_time_and_of_ordinary_tokens(name: str, zoo: Zoo) -> None:
    config = AutoConfig.from_pretrained(zoo.folder(name))
    for first, second in zip(make_probes(config), make_probes(config), strict=True):
        assert first.inputs.keys() == second.inputs.keys()
        for key in first.inputs:
            assert torch.equal(first.inputs[key], second.inputs[key])
    text = make_probes(config)[0].inputs["input_ids"][0].tolist()
    assert len(set(text)) == len(text)
    assert min(text) > 9 and max(text) < config.get_text_config(decoder=True).vocab_size


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("Llava", 24 * 24),
        ("LlavaNext", 24 * 24 + 24 * (48 + 1)),
        ("LlavaOnevision", 27 * 27 + 27 * (54 + 1)),
        ("PaliGemma", 16 * 16),
        ("Gemma3", 256),
        ("InternVL", 256),
        ("Llama4", 16 * 16),
        ("Idefics2", 64),
        ("Phi4Multimodal", 2 * 16 * 17 + 1),
    ],
)
def test_real_sizes_have_the_published_number_of_image_tokens(name: str, tokens: int) -> None:
    config = getattr(transformers, f"{name}Config")()
    kind = image_kind(config)
    assert kind is not None
    assert kind.tokens(config) == tokens
    assert image_token(config) > 0


def test_a_family_unknown_here_gets_a_text_only() -> None:
    assert image_kind(transformers.Blip2Config()) is None
    config = transformers.Ovis2Config(
        text_config={"model_type": "qwen2", "vocab_size": 500, "num_hidden_layers": 2}
    )
    assert [probe.name for probe in make_probes(config)] == ["text"]
