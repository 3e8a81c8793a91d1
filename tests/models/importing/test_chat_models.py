"""Embedders that are asked in turns: Qwen3-VL-Embedding, GME, and folders with a chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from puma_cli.checkpoint.inspection import inspect_folder
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from tests.models.importing.builders import add_modules, gme, qwen3_vl_embedding, write

ASKED = "Find a picture of it."


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(3)
    paths = []
    for number, size in enumerate(((70, 90, 3), (64, 64, 3), (150, 80, 3))):
        paths.append(folder / f"{number}.png")
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(paths[-1])
    return paths


def inputs_of(pictures: list[Path]) -> list[Input]:
    return [
        Input("a red square"),
        Input("blue", instruction=ASKED),
        Input(image=pictures[0]),
        Input("the same in green", pictures[1], ASKED),
        Input(image=pictures[2], instruction=ASKED),
    ]


@torch.no_grad()
def plain(folder: Path, inputs: list[Input], usual: str, end: str) -> torch.Tensor:
    """Embed one by one with plain transformers, from a prompt that is written out."""
    model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    processor.size = settings_for(folder).image_size
    rows = []
    for entry in inputs:
        shown, more = "", {}
        if entry.image is not None:
            more = dict(processor(images=[Image.open(entry.image)], return_tensors="pt"))
            count = int(more["image_grid_thw"].prod()) // processor.merge_size**2
            shown = f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"
        prompt = (
            f"<|im_start|>system\n{entry.instruction or usual}<|im_end|>\n"
            f"<|im_start|>user\n{shown}{entry.text or ''}<|im_end|>\n<|im_start|>assistant\n{end}"
        )
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        types = (ids == model.config.image_token_id).int()
        out = model(input_ids=ids, mm_token_type_ids=types, **more).last_hidden_state
        rows.append(normalize(out[0, -1], dim=-1))
    return torch.stack(rows)


@pytest.mark.parametrize("ends", [True, False])
def test_qwen3_vl_embedding_is_asked_in_the_system_turn(
    tmp_path: Path, pictures: list[Path], ends: bool
) -> None:
    folder = qwen3_vl_embedding(tmp_path / "model", ends)
    inputs = inputs_of(pictures)
    usual = "Represent the user's input."
    expected = plain(folder, inputs, usual, "<|endoftext|>" if ends else "")
    found = load(folder, "cpu").encode(inputs, batch_size=5)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6)
    assert settings_for(folder).embed_token == ("<|endoftext|>" if ends else "Ċ")
    facts = dict(inspect_folder(folder).facts)
    assert facts["embeds by"] == "the conventions of Qwen3-VL-Embedding"
    assert facts["instruction of all without one"] == repr(usual)


def test_gme_needs_none_of_its_code(tmp_path: Path, pictures: list[Path]) -> None:
    folder = gme(tmp_path / "model")
    inputs = inputs_of(pictures)
    expected = plain(folder, inputs, "You are a helpful assistant.", "<|endoftext|>")
    found = load(folder, "cpu").encode(inputs, batch_size=5)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6)
    settings = settings_for(folder)
    assert (settings.min_pixels, settings.max_pixels) == (4 * 784, 12 * 784)
    assert settings.max_text_tokens == 300


def test_a_folder_with_modules_says_itself_how_it_is_asked(
    tmp_path: Path, pictures: list[Path]
) -> None:
    folder = qwen3_vl_embedding(tmp_path / "model")
    add_modules(folder, {"pooling_mode": "lasttoken"}, prompts={"document": "Keep this."})
    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    config = {
        "transformer_task": "feature-extraction",
        "module_output_name": "token_embeddings",
        "modality_config": {"text": forward, "message": {**forward, "format": "structured"}},
        "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
    }
    write(folder / "sentence_bert_config.json", config)
    inputs = inputs_of(pictures)
    expected = plain(folder, inputs, "Keep this.", "<|endoftext|>")
    found = load(folder, "cpu").encode(inputs, batch_size=5)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6)
    assert dict(inspect_folder(folder).facts)["embeds by"] == "modules.json"
    # Without the modality it would be given raw texts, and no images.
    del config["modality_config"]["message"]  # type: ignore[attr-defined]
    write(folder / "sentence_bert_config.json", config)
    with pytest.raises(CheckpointError, match="not asked in turns"):
        settings_for(folder)


def test_one_vision_pass_serves_several_and_is_kept_row_by_row(
    tmp_path: Path, pictures: list[Path]
) -> None:
    model = load(qwen3_vl_embedding(tmp_path / "model"), "cpu")
    batch = model.collate(inputs_of(pictures))
    with torch.no_grad():
        expected = model.embed(batch)
        vision = model.vision_features(batch)
        rows = model.family.rows(vision)
        assert len(rows) == 3 and rows[0].shape[1] == 3 * model.width
        again = model.family.of_rows(rows, model.width)
        assert torch.equal(model.embed(batch, vision), expected)
        assert torch.equal(model.embed(batch, again), expected)
        # Features that enter after the first layers are not forgotten.
        for level in again.deepstack_features:
            for each in level:
                each.zero_()
        assert not torch.allclose(model.embed(batch, again), expected, atol=1e-3)
    assert "get_image_features" not in vars(model.model)


def test_every_depth_past_the_deepstack_is_what_its_cut_gives(
    tmp_path: Path, pictures: list[Path]
) -> None:
    from tests.residual_stream import residual_states

    model = load(qwen3_vl_embedding(tmp_path / "model"), "cpu")
    batch = model.collate(inputs_of(pictures))
    states = residual_states(model, batch)
    for depth in (2, 3, 5):
        with model.layers(range(depth)), torch.no_grad():
            cut = model.embed(batch)
        torch.testing.assert_close(cut, model.read_out(states[depth]))


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["ColQwen2ForRetrieval"], "model_type": "colqwen2"},
        {"architectures": ["ColPali"], "model_type": "qwen2_vl"},
        {"architectures": ["BiColQwen2_5"], "model_type": "qwen2_5_vl"},
    ],
)
def test_several_vectors_an_input_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    write(tmp_path / "config.json", config)
    with pytest.raises(CheckpointError, match="several vectors an input") as caught:
        settings_for(tmp_path)
    assert "late interaction" in caught.value.cause


def test_modules_of_several_vectors_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {"model_type": "qwen3"})
    write(tmp_path / "modules.json", [{"path": "", "type": "pylate.models.Dense.Dense"}])
    with pytest.raises(CheckpointError, match="pylate"):
        settings_for(tmp_path)


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path) -> None:
    folder = qwen3_vl_embedding(tmp_path / "model")
    settings = load(folder, "cpu").settings
    model = load(folder, "cpu")
    model.save(folder)
    path = folder / "embedder.json"
    reach = "{{ ''.__class__.__mro__[1].__subclasses__() }}" + settings.template
    path.write_text(json.dumps(json.loads(path.read_text()) | {"template": reach}))
    with pytest.raises(CheckpointError, match=r"prompt of .* cannot be used") as caught:
        load(folder, "cpu")
    assert "SecurityError" in caught.value.cause


def test_a_folder_without_its_image_processor_is_refused(tmp_path: Path) -> None:
    folder = qwen3_vl_embedding(tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        load(folder, "cpu")
    assert "has no image processor" in str(caught.value)
