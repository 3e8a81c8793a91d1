"""What `puma info` says of a checkpoint, from its headers and settings alone."""

from __future__ import annotations

import json
from pathlib import Path

from puma_cli.checkpoint.model_facts import model_facts
from tests.pruning.headers import plain_decoder, sparse_checkpoint, write_sparse

SETTINGS = {
    "template": "EMBED",
    "embed_token": "EMBED",
    "dimension": 32,
    "min_pixels": 1,
    "max_pixels": 2,
    "head": "bridge.safetensors",
}


def headed(folder: Path) -> Path:
    config = {"model_type": "qwen2", "architectures": ["Qwen2Model"], "num_hidden_layers": 2}
    sparse_checkpoint(folder, config, plain_decoder(2))
    for name, content in (("embedder.json", SETTINGS), ("tokenizer.json", {})):
        (folder / name).write_text(json.dumps(content))
    (folder / "preprocessor_config.json").write_text("{}")
    return folder


def test_a_head_is_named_with_what_plain_loaders_miss(tmp_path: Path) -> None:
    folder = headed(tmp_path)
    write_sparse(folder / "bridge.safetensors", {"weight": (8, 32), "bias": (32,)}, "F32")
    told = list(model_facts(folder))
    facts = dict(told)
    assert len(facts) == len(told)
    assert facts["dimension"] == "32"
    assert facts["head"].startswith("bridge.safetensors, 8 to 32:")
    assert "plain AutoModel gives the vectors before it" in facts["head"]


def test_a_missing_head_does_not_hide_the_rest(tmp_path: Path) -> None:
    facts = dict(model_facts(headed(tmp_path)))
    assert facts["decoder layers"] == "2"
    assert facts["embeds"].startswith("no: The head")


def test_parts_are_counted(tmp_path: Path) -> None:
    shapes = plain_decoder(2) | {
        "model.vision_tower.encoder.layers.0.weight": (10, 10),
        "model.audio_tower.layers.0.weight": (20, 10),
        "model.multi_modal_projector.weight": (30, 10),
        "lm_head.weight": (16, 8),
    }
    facts = dict(model_facts(sparse_checkpoint(tmp_path, {"model_type": "x"}, shapes)))
    assert facts["decoder layers"] == "2"
    assert facts["parameters"] == (
        "992: decoder layers 128, vision 100, audio 200, projector 300, token embeddings 128, "
        "final norm 8, LM head 128"
    )
