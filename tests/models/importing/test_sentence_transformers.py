"""Folders of sentence-transformers, against sentence-transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from puma_cli.errors import CheckpointError, DataError
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from tests.models.importing.builders import sentence_transformer, write

TEXTS = ["a red square", "Why?", "two small blue circles on sand, and one red square " * 3, "x"]
ASK = {"query": "Instruct: Find the picture\nQuery:", "document": ""}


def vectors_of(folder: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what sentence-transformers makes of the texts as queries and as documents."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", **options)
    return model.encode_query(TEXTS), model.encode_document(TEXTS)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@pytest.mark.parametrize(
    ("pooling", "ends", "prompts"),
    [
        ("lasttoken", True, ASK),
        ("lasttoken", False, {"query": "query: ", "passage": "passage: "}),
        ("mean", True, {"query": "ask ", "document": ""}),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, False, {}),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, True, ASK),
        ("cls", False, {"query": "who "}),
    ],
    ids=["last", "last-no-end", "mean", "legacy-mean", "legacy-last", "first"],
)
def test_vectors_are_those_of_sentence_transformers(
    tmp_path: Path, kind: str, pooling: Any, ends: bool, prompts: dict[str, str]
) -> None:
    folder = tmp_path / "model"
    sentence_transformer(folder, kind, pooling=pooling, ends=ends, prompts=prompts)
    model = load(folder, "cpu")
    queries, documents = vectors_of(folder)
    np.testing.assert_allclose(model.encode_queries(TEXTS), queries, atol=2e-6)
    np.testing.assert_allclose(model.encode_documents(TEXTS), documents, atol=2e-6)


def test_a_prompt_that_names_the_task_takes_another(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = sentence_transformer(tmp_path / "model", prompts=ASK)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(
        TEXTS, prompt="Instruct: Is it blue?\nQuery:"
    )
    ours = load(folder, "cpu").encode_queries(TEXTS, "Is it blue?")
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    settings = settings_for(folder)
    assert settings.query_instruction == "Find the picture" and not settings.sees


def test_a_dense_module_is_the_head(tmp_path: Path) -> None:
    folder = sentence_transformer(tmp_path / "model", dense=20, prompts=ASK)
    model = load(folder, "cpu")
    queries, documents = vectors_of(folder)
    assert model.dimension == 20
    np.testing.assert_allclose(model.encode_queries(TEXTS), queries, atol=2e-6)
    np.testing.assert_allclose(model.encode_documents(TEXTS), documents, atol=2e-6)
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved", "cpu").encode_documents(TEXTS, output="torch")
    assert torch.equal(again, model.encode_documents(TEXTS, output="torch"))


def test_a_text_model_says_that_it_sees_no_images(tmp_path: Path) -> None:
    model = load(sentence_transformer(tmp_path / "model"), "cpu")
    for act in (model.collate, model.processor.sizes):
        with pytest.raises(DataError, match=r"image a\.png cannot be embedded"):
            act([Input(image=Path("a.png"))])


def test_what_ends_on_nothing_of_its_own_needs_a_text(tmp_path: Path) -> None:
    model = load(sentence_transformer(tmp_path / "model", ends=False), "cpu")
    with pytest.raises(DataError, match="has no token"):
        model.collate([Input(text="")])


@pytest.mark.parametrize(
    ("pooling", "says"),
    [
        ("max", "asks for the pooling max"),
        ({"pooling_mode": ["mean", "lasttoken"]}, "pooling mean and lasttoken"),
        ({"pooling_mode_weightedmean_tokens": True}, "pooling weightedmean"),
    ],
)
def test_poolings_that_puma_cannot_do_are_refused(tmp_path: Path, pooling: Any, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        settings_for(sentence_transformer(tmp_path / "model", pooling=pooling))


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("sentence_transformers.models.WordWeights", "which puma does not know"),
        ("custom_st.Transformer", "code of its own"),
        ("sentence_transformers.models.Dense", "twice"),
    ],
)
def test_modules_that_puma_does_not_know_are_refused_by_name(
    tmp_path: Path, module: str, says: str
) -> None:
    folder = sentence_transformer(tmp_path / "model", dense=8, normalize=False)
    path = folder / "modules.json"
    modules = json.loads(path.read_text())
    write(path, [*modules, {"idx": 3, "name": "3", "path": "3_More", "type": module}])
    with pytest.raises(CheckpointError, match=says) as caught:
        settings_for(folder)
    assert module in caught.value.problem


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"activation_function": "torch.nn.modules.activation.Tanh"}, "Tanh"),
        ({"use_residual": True}, "use_residual"),
        ({"module_output_name": "other"}, "module_output_name 'other'"),
    ],
)
def test_a_head_that_is_not_linear_is_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    folder = sentence_transformer(tmp_path / "model", dense=8)
    path = folder / "2_Dense" / "config.json"
    write(path, json.loads(path.read_text()) | changes)
    with pytest.raises(CheckpointError, match=says):
        settings_for(folder)


def test_a_head_of_another_width_is_refused(tmp_path: Path) -> None:
    folder = sentence_transformer(tmp_path / "model", dense=8)
    path = folder / "2_Dense" / "config.json"
    write(path, json.loads(path.read_text()) | {"out_features": 9})
    with pytest.raises(CheckpointError, match="maps 32 numbers to 8"):
        load(folder, "cpu")


def test_an_order_of_modules_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    folder = sentence_transformer(tmp_path / "model", dense=8)
    path = folder / "modules.json"
    modules = json.loads(path.read_text())
    write(path, [*modules[:2], modules[3], modules[2]])
    with pytest.raises(CheckpointError, match="Transformer, Pooling, Normalize, Dense"):
        settings_for(folder)


def test_a_default_prompt_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = sentence_transformer(tmp_path / "model", prompts={"query": "a"})
    path = folder / "config_sentence_transformers.json"
    write(path, json.loads(path.read_text()) | {"default_prompt_name": "nope"})
    with pytest.raises(CheckpointError, match="no prompt 'nope'"):
        settings_for(folder)
    write(path, {"prompts": {"query": 3}})
    with pytest.raises(CheckpointError, match="no texts by name"):
        settings_for(folder)


def test_an_architecture_that_attends_both_ways_is_none_of_ours(tmp_path: Path) -> None:
    folder = sentence_transformer(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"model_type": "bert"})
    with pytest.raises(CheckpointError, match="`bert`, which puma does not"):
        settings_for(folder)


def test_code_of_its_own_is_not_run_unless_asked(tmp_path: Path) -> None:
    folder = sentence_transformer(tmp_path / "model", prompts=ASK)
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"auto_map": {"AutoModel": "modeling.Own"}})
    (folder / "modeling.py").write_text(
        "from transformers import Qwen3Config, Qwen3Model\n\n\n"
        "class Own(Qwen3Model):\n    config_class = Qwen3Config\n"
    )
    with pytest.raises(CheckpointError, match=r"brings code of its own: modeling\.Own"):
        load(folder, "cpu")
    model = load(folder, "cpu", trust_remote_code=True)
    assert type(model.model).__name__ == "Own"
    queries, _ = vectors_of(folder, trust_remote_code=True)
    np.testing.assert_allclose(model.encode_queries(TEXTS), queries, atol=2e-6)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("2_Dense/config.json", {}, "has out_features None"),
        ("1_Pooling/config.json", {"pooling_mode": 5}, "asks for the pooling 5"),
        ("sentence_bert_config.json", {"modality_config": 7}, "names no modalities"),
        ("modules.json", {"a": 1}, "is no list of modules"),
        ("config_sentence_transformers.json", None, "is not a JSON object"),
    ],
)
def test_files_that_say_something_else_are_named(
    tmp_path: Path, file: str, content: Any, says: str
) -> None:
    folder = sentence_transformer(tmp_path / "model", dense=8)
    write(folder / file, content)
    with pytest.raises(CheckpointError, match=says) as caught:
        settings_for(folder)
    assert Path(file).name in caught.value.problem


@pytest.mark.parametrize("missing", ["1_Pooling/config.json", "2_Dense/model.safetensors",
                                     "tokenizer.json", "model.safetensors"])  # fmt: skip
def test_half_a_copy_is_refused(tmp_path: Path, missing: str) -> None:
    folder = sentence_transformer(tmp_path / "model", dense=8)
    (folder / missing).unlink()
    with pytest.raises(CheckpointError) as caught:
        load(folder, "cpu")
    assert Path(missing).name in caught.value.problem and caught.value.hint


@pytest.mark.parametrize(
    "hostile",
    ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}", "{% for %}"],
)
def test_a_chat_template_is_kept_in_its_sandbox(tmp_path: Path, hostile: str) -> None:
    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    message = {"modality_config": {"message": {**forward, "format": "structured"}}}
    folder = sentence_transformer(tmp_path / "model", transformer=message)
    (folder / "chat_template.jinja").write_text(hostile + "{{ messages[0].content[0].text }}")
    with pytest.raises(CheckpointError, match=r"chat template of .* cannot be used") as caught:
        settings_for(folder)
    assert "Error" in caught.value.cause
