"""`puma eval` with a cache: the same scores, computed once, by one process or several."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from puma_cli.config.settings import EvaluateSettings
from puma_cli.encoding import encoder
from puma_cli.encoding.cache_folder import VECTORS, cache_folder
from puma_cli.encoding.encoder import StoredEncoder
from puma_cli.errors import ConfigError
from puma_cli.evaluation.evaluate import evaluate
from puma_cli.evaluation.results import Scores
from puma_cli.models.inputs import Input


@pytest.fixture
def settings(tiny_checkpoint: Path, tiny_scenes: Path, tmp_path: Path) -> EvaluateSettings:
    return EvaluateSettings(
        str(tiny_checkpoint),
        tiny_scenes,
        tmp_path / "scores",
        tasks="*_task[07]",
        device="cpu",
        cache_dir=tmp_path / "cache",
    )


def recorded(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "puma.json").read_text())["results"]["encoding"]
    return found


def same(ours: Scores, theirs: Scores) -> None:
    for one, other in zip(ours.rows, theirs.rows, strict=True):
        assert (one.task, one.pool, one.qids) == (other.task, other.pool, other.qids)
        assert np.array_equal(one.ranks, other.ranks)
        assert np.array_equal(one.ties, other.ties)


def test_a_second_evaluation_opens_no_model_and_computes_nothing(
    settings: EvaluateSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(settings)
    how = recorded(settings.output_dir)
    assert 0 < how["encoded"] <= how["inputs"]
    assert (how["dtype"], how["store_dtype"], how["attention"]) == ("float32", "float32", "sdpa")
    assert how["batch_tokens"] > 0
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "load", None)
        second = evaluate(replace(settings, output_dir=tmp_path / "again"))
        # Under another name, on the other split's pools: whatever is there is not computed again.
        copy = shutil.copytree(settings.model, tmp_path / "copy")
        third = evaluate(replace(settings, model=str(copy), output_dir=tmp_path / "named"))
    assert recorded(tmp_path / "again")["encoded"] == recorded(tmp_path / "named")["encoded"] == 0
    same(first, second)
    same(first, third)
    plain = evaluate(replace(settings, cache=False, output_dir=tmp_path / "plain"))
    assert recorded(tmp_path / "plain")["encoded"] == how["inputs"]
    same(first, plain)


def test_more_tasks_compute_only_what_is_new(settings: EvaluateSettings, tmp_path: Path) -> None:
    evaluate(settings)
    before = recorded(settings.output_dir)
    evaluate(replace(settings, tasks="*", output_dir=tmp_path / "all"))
    after = recorded(tmp_path / "all")
    assert after["inputs"] - before["inputs"] == after["encoded"] > 0


def test_a_changed_model_is_computed_anew(settings: EvaluateSettings, tmp_path: Path) -> None:
    evaluate(settings)
    copy = shutil.copytree(settings.model, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    name = "language_model.norm.weight"
    save_file(weights | {name: weights[name] * 1.5 + 0.1}, copy / "model.safetensors", {"format": "pt"})  # fmt: skip # noqa: E501
    changed = replace(settings, model=str(copy), output_dir=tmp_path / "changed")
    evaluate(changed)
    how = recorded(tmp_path / "changed")
    assert how["encoded"] > 0
    assert len(list((tmp_path / "cache" / VECTORS).iterdir())) == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_halves_the_store(
    settings: EvaluateSettings, tmp_path: Path, dtype: str
) -> None:
    inputs = [Input(text=f"small red circle {n}") for n in range(20)]
    whole, half = (
        StoredEncoder(Path(settings.model), replace(settings, store_dtype=kind))
        for kind in ("auto", dtype)
    )
    exact, rounded = (each.encode(inputs).rows(0, 20) for each in (whole, half))
    assert rounded.dtype is getattr(torch, dtype)
    assert torch.equal(exact.to(rounded.dtype), rounded)
    in_half = StoredEncoder(Path(settings.model), replace(settings, dtype=dtype))
    assert in_half.encode(inputs).rows(0, 1).dtype is torch.float16
    assert in_half.record["store_dtype"] == "float16"


def test_two_processes_share_the_encoding(settings: EvaluateSettings, tmp_path: Path) -> None:
    words = ["eval", settings.model, "--data", str(settings.data), "--tasks", "*_task[07]"]
    words += ["-o", "two", "--device", "cpu", "--cache-dir", "shared", "--num-processes", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "puma_cli", *words, "--json"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    how = recorded(tmp_path / "two")
    assert how["processes"] == len(how["shares"]) == 2
    assert min(how["shares"]) > 0
    assert sum(how["shares"]) == how["encoded"] <= how["inputs"]
    alone = evaluate(settings)
    found = json.loads(done.stdout)["mean"]
    assert found.keys() == alone.means.keys()
    for pool, means in alone.means.items():
        assert found[pool] == pytest.approx(means)


def test_an_attention_that_is_not_there_is_refused(
    settings: EvaluateSettings, tmp_path: Path
) -> None:
    asked = replace(settings, attention="flash_attention_2")
    with pytest.raises(ConfigError, match="lash attention"):
        evaluate(asked)
    with pytest.raises(ConfigError, match="must be one of"):
        evaluate(replace(settings, attention="flash"))
    eager = StoredEncoder(Path(settings.model), replace(settings, attention="eager"))
    plain = StoredEncoder(Path(settings.model), settings)
    inputs = [Input(text="small red circle"), Input(text="blue")]
    torch.testing.assert_close(
        eager.encode(inputs).rows(0, 2), plain.encode(inputs).rows(0, 2), rtol=0, atol=1e-5
    )
    assert len(list((tmp_path / "cache" / VECTORS).iterdir())) == 2


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PUMA_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "puma"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "puma"
    monkeypatch.setenv("PUMA_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"
    assert cache_folder(tmp_path / "asked") == tmp_path / "asked"
