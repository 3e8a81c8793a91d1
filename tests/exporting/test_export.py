"""What an export holds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from puma_cli.checkpoint.inspection import inspect_folder
from puma_cli.cli.app import run
from puma_cli.config.settings import ExportSettings
from puma_cli.errors import CheckpointError, ConfigError
from puma_cli.exporting.export import export
from puma_cli.exporting.outgoing import parse_prompts
from puma_cli.exporting.template import exported_template
from puma_cli.exporting.weights import VLLM, renamed
from puma_cli.models.embedder_settings import EmbedderSettings
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load


def test_puma_opens_every_format_as_the_same_model(exported: Path, headed_model: Path) -> None:
    inputs = [Input(text="a red square"), Input(text="on sand", instruction="Find it.")]
    expected = load(headed_model, "cpu").encode(inputs)
    for name in ("transformers", "sentence-transformers", "vllm"):
        assert torch.equal(load(exported / name, "cpu").encode(inputs), expected)
        assert inspect_folder(exported / name).kind == "exported checkpoint"
    assert inspect_folder(exported).kind == "exports"


def test_an_export_of_an_export_is_the_same(exported: Path, tmp_path: Path) -> None:
    source = exported / "sentence-transformers"
    export(ExportSettings(str(source), tmp_path / "again", verify=False))
    names = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    again = {p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*")}
    assert names <= again
    for name in names - {Path("puma.json"), Path("README.md")}:
        assert (source / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_the_head_is_a_dense_module_without_activation(exported: Path, headed_model: Path) -> None:
    folder = exported / "sentence-transformers"
    modules = json.loads((folder / "modules.json").read_text())
    assert [each["type"].rpartition(".")[2] for each in modules] == [
        "Transformer",
        "Pooling",
        "Dense",
        "Normalize",
    ]
    config = json.loads((folder / "2_Dense" / "config.json").read_text())
    assert config["activation_function"].endswith(".Identity")
    assert (config["in_features"], config["out_features"]) == (32, 24)
    dense, head = (
        load_file(folder / "2_Dense" / "model.safetensors"),
        load(headed_model, "cpu").head,
    )
    assert head is not None
    assert torch.equal(dense["linear.weight"].T, head.weight)
    assert torch.equal(dense["linear.bias"], head.bias)


PREFIXES = {
    "qwen2_vl": ("language_model.", "visual."),
    "qwen2_5_vl": ("model.language_model.", "model.visual."),
    "qwen3_vl": ("language_model.", "visual."),
    "qwen2": ("",),
    "qwen3": ("model.",),
}


@pytest.mark.parametrize("model_type", VLLM)
def test_names_are_written_alike_wherever_they_come_from(model_type: str) -> None:
    decoder, *vision = PREFIXES[model_type]
    naming = VLLM[model_type]
    name = f"{decoder}layers.0.mlp.up_proj.weight"
    assert renamed(name, naming) == f"{naming.decoder}layers.0.mlp.up_proj.weight"
    names = [name, *(f"{prefix}blocks.1.attn.qkv.bias" for prefix in vision)]
    for written in (renamed(each, naming) for each in names):
        # A second export changes nothing.
        assert written.startswith((naming.decoder, naming.vision))
        assert renamed(written, naming) == written


def test_the_layout_of_vllm_has_a_head_that_is_tied(exported: Path) -> None:
    config = json.loads((exported / "vllm" / "config.json").read_text())
    assert config["architectures"] == ["Qwen2VLForConditionalGeneration"]
    assert config["tie_word_embeddings"] is True
    assert config["text_config"]["tie_word_embeddings"] is True
    names = load_file(exported / "vllm" / "model.safetensors")
    assert {name.partition(".")[0] for name in names} == {"model", "visual"}


def test_prompts_have_names(headed_model: Path, tmp_path: Path) -> None:
    given = ("query=Find a picture.", "document=", "wiki=a = b")
    assert parse_prompts(given) == {"query": "Find a picture.", "document": "", "wiki": "a = b"}
    with pytest.raises(ConfigError, match="has no name"):
        parse_prompts(("Find a picture.",))
    export(ExportSettings(str(headed_model), tmp_path / "out", prompts=given, verify=False))
    config = json.loads((tmp_path / "out" / "config_sentence_transformers.json").read_text())
    assert config["prompts"] == parse_prompts(given)
    assert "wiki" in (tmp_path / "out" / "README.md").read_text()


def test_more_dimensions_than_there_are_are_refused(headed_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="25 dimensions were asked for"):
        export(ExportSettings(str(headed_model), tmp_path / "out", dimensions=25, verify=False))
    assert not (tmp_path / "out").exists()


def test_a_template_is_extended_once() -> None:
    own = EmbedderSettings("{{ messages }}<|embed|>", "<|embed|>", 8, 1, 2)
    once = exported_template(own)
    assert exported_template(replace(own, template=once)) == once and once.endswith("<|embed|>")


def test_the_command_tells_where_and_how_well(
    headed_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(headed_model), "--output-dir", str(tmp_path / "out"), "--no-verify"]
    assert run([*words, "--format", "transformers", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dimension"] == 24 and found["parity"] == {}
    assert run(words) == 1
    assert "is not empty" in capsys.readouterr().err
    assert run([*words, "--format", "onnx", "--overwrite"]) == 2
    assert "must be one of transformers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("preprocessor_config.json", "has no image processor"),
        ("tokenizer.json", "has no tokenizer"),
        ("bridge.safetensors", "is missing"),
        ("model.safetensors", "holds no"),
    ],
)
def test_half_a_model_is_refused_before_anything_is_written(
    headed_model: Path, tmp_path: Path, missing: str, says: str
) -> None:
    folder = tmp_path / "half"
    shutil.copytree(headed_model, folder)
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=says) as caught:
        export(ExportSettings(str(folder), tmp_path / "out", verify=False))
    assert caught.value.hint and not (tmp_path / "out").exists()
    facts = inspect_folder(folder).facts if missing != "model.safetensors" else []
    assert all(name != "embeds by" for name, _ in facts)


def test_a_bridge_of_another_width_is_refused(headed_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(headed_model, folder)
    save_file(
        {"weight": torch.zeros(16, 24), "bias": torch.zeros(24)}, folder / "bridge.safetensors"
    )
    with pytest.raises(CheckpointError, match="maps 16 numbers"):
        export(ExportSettings(str(folder), tmp_path / "out", verify=False))


def test_a_name_that_the_hub_cannot_have_is_refused_first(
    headed_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no model of the name 'a b'"):
        export(ExportSettings(str(headed_model), tmp_path / "out", push_to_hub="a b"))
    assert not (tmp_path / "out").exists()


def test_a_head_that_goes_along_is_not_said_to_be_left_out(
    headed_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(headed_model), "-o", str(tmp_path / "out"), "--no-verify"]
    assert run(words) == 0
    assert "Left out" not in capsys.readouterr().err
