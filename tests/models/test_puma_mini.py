"""puma-mini as it ships: stock, small, and of use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, Qwen2VLModel

from puma_cli.checkpoint.source import PUMA_MINI, resolve
from puma_cli.data.mbeir import MbeirFolder, TaskName
from puma_cli.models.opening import load

FOLDER = resolve(PUMA_MINI)
TOKENIZER = AutoTokenizer.from_pretrained(FOLDER)


def test_it_is_a_stock_qwen2_vl_of_twelve_layers_within_its_limits() -> None:
    model, report = AutoModel.from_pretrained(FOLDER, dtype=torch.float32, output_loading_info=True)
    assert type(model) is Qwen2VLModel
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert len(model.language_model.layers) == 12
    assert len(model.visual.blocks) > 0
    assert sum(parameter.numel() for parameter in model.parameters()) <= 5_800_000
    assert (FOLDER / "model.safetensors").stat().st_size <= 12_000_000


def test_the_folder_holds_all_that_stock_loaders_need() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "chat_template.jinja",
        "embedder.json",
        "README.md",
        "puma.json",
    } <= names


@given(st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_text_is_unknown_to_its_tokenizer(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("task_id", [1, 4])
def test_it_finds_what_it_was_never_shown(tiny_scenes: Path, task_id: int) -> None:
    """Far above chance on held-out compositions: a check of wiring, not a score."""
    data, embedder = MbeirFolder(tiny_scenes), load(PUMA_MINI, "cpu")
    task = TaskName("scenes", task_id)
    pool, queries = data.local_pool(task, "test"), data.queries("test", task)
    vectors = embedder.encode([candidate.to_input() for candidate in pool])
    asked = embedder.encode([q.to_input(data.instructions.pick(q)) for q in queries])
    best = (asked @ vectors.T).topk(5, dim=1).indices
    relevant = data.qrels("test", task)
    found = [
        any(pool[int(i)].did in relevant[query.qid] for i in row)
        for row, query in zip(best, queries, strict=True)
    ]
    assert len(pool) > 50
    assert sum(found) >= 0.6 * len(found)
