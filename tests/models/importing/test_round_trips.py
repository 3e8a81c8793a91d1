"""Embedders of others: cut, bridged, distilled, exported, and opened again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from puma_cli.cli.app import run
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.profiling.bridges.bridge import read_cuts
from tests.models.importing.builders import gme, qwen3_vl_embedding, sentence_transformer
from tests.models.importing.test_sentence_transformers import ASK, TEXTS, vectors_of
from tests.models.importing.texts import text_data

QUICK = ("--steps", "2", "--batch-size", "4", "--device", "cpu", "--set", "train.validate_every=2")
QUIET = ("--set", "train.validation_limit=2")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def puma(*words: object) -> None:
    assert run([str(word) for word in words]) == 0


def test_a_folder_of_sentence_transformers_goes_back_to_it(here: Path) -> None:
    """In, cut to a third, bridged, exported, and opened by sentence-transformers."""
    sentence_transformer(here / "model", "qwen3", prompts=ASK, dense=20)
    text_data(here / "data")
    puma("prune", "model", "--keep", 2, "--bridge", "--data", "data", "-o", "cut")
    # Verified with transformers and with sentence-transformers itself.
    puma("export", "cut", "-o", "out")
    checks = json.loads((here / "out" / "parity.json").read_text())["checks"]
    assert [check["unchecked"] for check in checks] == ["", ""]
    whole, cut = load("model", "cpu"), load("cut", "cpu")
    assert cut.depth == 2 and cut.dimension == whole.dimension == 20
    queries, documents = vectors_of(here / "out")
    np.testing.assert_allclose(cut.encode_queries(TEXTS), queries, atol=5e-6)
    np.testing.assert_allclose(cut.encode_documents(TEXTS), documents, atol=5e-6)
    np.testing.assert_array_equal(
        load("out", "cpu").encode_queries(TEXTS), cut.encode_queries(TEXTS)
    )
    puma("eval", "out", "--data", "data", "-o", "scores", "--device", "cpu", "--no-cache")


@pytest.mark.parametrize(("kind", "pooling"), [("qwen2", "mean"), ("qwen3", "lasttoken")])
def test_a_text_model_is_cut_trained_and_exported(here: Path, kind: str, pooling: str) -> None:
    sentence_transformer(here / "model", kind, pooling=pooling, prompts=ASK)
    text_data(here / "data")
    puma("prune", "model", "--keep", 2, "-o", "cut")
    # What was cut opens elsewhere as it did.
    queries, _ = vectors_of(here / "cut")
    np.testing.assert_allclose(load("cut", "cpu").encode_queries(TEXTS), queries, atol=5e-6)
    lora = ("--set", "lora.rank=2") if kind == "qwen3" else ("--set", "lora.rank=0")
    puma("distill", "cut", "--teacher", "model", "--data", "data", "-o", "student", *QUICK, *lora)
    student, cut = load("student", "cpu"), load("cut", "cpu")
    assert student.settings == cut.settings
    trained = student.encode_documents(TEXTS)
    assert not np.allclose(trained, cut.encode_documents(TEXTS), atol=1e-5)
    puma("export", "student", "-o", "out")
    np.testing.assert_allclose(vectors_of(here / "out")[1], trained, atol=5e-6)


@pytest.mark.parametrize("build", [qwen3_vl_embedding, gme])
def test_a_model_that_sees_is_cut_trained_and_exported(
    here: Path, tiny_scenes: Path, build: object
) -> None:
    build(here / "model")  # type: ignore[operator]
    puma("prune", "model", "--keep", 3, "-o", "cut")
    whole, cut = load("model", "cpu"), load("cut", "cpu")
    assert cut.settings == whole.settings and cut.depth == 3
    puma(
        "distill",
        "cut",
        "--teacher",
        "model",
        "--data",
        tiny_scenes,
        "-o",
        "student",
        *QUICK,
        *QUIET,
    )
    student = load("student", "cpu")
    assert student.settings == whole.settings
    picture = next((tiny_scenes / "mbeir_images").rglob("*.png"))
    inputs = [Input("a"), Input(image=picture), Input("b", picture, "Find it.")]
    trained = student.encode(inputs)
    assert not torch.allclose(trained, cut.encode(inputs), atol=1e-5)
    # Verified: to 1e-6 on the same batch.
    puma("export", "student", "-o", "out", "--format", "transformers")
    (check,) = json.loads((here / "out" / "parity.json").read_text())["checks"]
    assert len(check["cases"]) == 18 and not check["unchecked"]
    torch.testing.assert_close(load("out", "cpu").encode(inputs), trained)


@pytest.mark.parametrize("build", [qwen3_vl_embedding, sentence_transformer])
def test_a_training_is_forecast_and_every_depth_is_read(
    here: Path, tiny_scenes: Path, build: object
) -> None:
    build(here / "model")  # type: ignore[operator]
    data = tiny_scenes if build is qwen3_vl_embedding else text_data(here / "data")
    keep = ("--keep", 3, "-o", "cut")
    puma("prune", "model", *keep)
    told = ("--teacher", "model", "--data", data, "-o", "student", *QUICK)
    puma("distill", "cut", *told, "--dry-run")
    assert not (here / "student").exists()
    puma("analyze", "model", "--data", data, "-o", "profile", "--limit", 8, "--device", "cpu")
    assert (here / "profile" / "profile.json").is_file()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_an_analysis_refuses_what_is_pooled_by_the_mean(
    here: Path, capsys: pytest.CaptureFixture[str], dry: tuple[str, ...]
) -> None:
    sentence_transformer(here / "model", pooling="mean")
    data = text_data(here / "data")
    assert run(["analyze", "model", "--data", str(data), "-o", "profile", *dry]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "pooled by the mean" in said and "at one token" in said and "puma prune MODEL" in said
    assert not (here / "profile").exists()


def test_a_bridge_is_fitted_to_means(here: Path) -> None:
    """Its inputs are what a cut of the same layers gives, its goal what the whole model does."""
    sentence_transformer(here / "model", pooling="mean")
    text_data(here / "data")
    puma("prune", "model", "--keep", 2, "-o", "cut")
    puma("prune", "model", "--keep", 2, "--bridge", "--data", "data", "-o", "bridged")
    whole, cut, bridged = (load(name, "cpu") for name in ("model", "cut", "bridged"))
    batch = whole.collate([Input(text=text) for text in TEXTS])
    (states,), goal = read_cuts(whole, [(0, 1)], batch)
    torch.testing.assert_close(states, cut.post_norm_states(batch).detach())
    torch.testing.assert_close(goal, whole.post_norm_states(batch).detach())
    documents = [f"A {thing} that is {colour} all over." for colour in ("red", "blue") for thing in
                 ("square", "circle", "star", "ring")]  # fmt: skip
    target = whole.encode_documents(documents)
    near, far = (np.sum(each.encode_documents(documents) * target, 1) for each in (bridged, cut))
    assert near.mean() > 0.9 > far.mean()
