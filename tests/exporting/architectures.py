"""Tiny random embedders of every architecture that puma exports, and loaders that are asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

from puma_cli.exporting.formats import TRANSFORMERS
from puma_cli.exporting.loaders import with_transformers
from puma_cli.exporting.parity.check import compare_answers, plain_batch
from puma_cli.exporting.parity.probes import ProbeBatch
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import (
    PLAIN_TEMPLATE,
    EmbedderSettings,
    write_embedder_settings,
)
from puma_cli.models.family_names import VISION_LANGUAGE
from puma_cli.models.fresh import EMBED
from puma_cli.models.head_file import BRIDGE
from tests.models.importing.builders import (
    WIDTH,
    build_tokenizer,
    save_image_processor,
    text_model,
    vision_model,
)

VISION = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TEXT = ("qwen2", "qwen3")
ARCHITECTURES = VISION + TEXT
# What a mutant is away by, of a vector's length.
CAUGHT = 1e-3
# Numbers that a bridge gives.
OUTPUTS = 24


@dataclass(frozen=True)
class Made:
    """A model and its exports.

    Args:
        exported: a folder for each format.
        opened: that of sentence-transformers, as it opens without torchvision.
    """

    model: Embedder
    exported: Path
    opened: Path
    batches: Mapping[str, ProbeBatch]


def build_embedder(folder: Path, kind: str, **changes: Any) -> Path:
    """Write a tiny embedder of an architecture, with a bridge of 24 numbers.

    Args:
        changes: fields of its `embedder.json`.
    """
    folder.mkdir(parents=True)
    tokenizer = build_tokenizer(ends=False)
    sees = kind in VISION_LANGUAGE
    model = vision_model(kind, tokenizer) if sees else text_model(kind)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    low = high = 0
    if sees:
        side = 2 * model.config.vision_config.patch_size
        low, high = 4 * side**2, 12 * side**2
        save_image_processor(folder, side // 2, low, high)
    generator = torch.Generator().manual_seed(9)
    head = {
        "weight": torch.randn(WIDTH, OUTPUTS, generator=generator),
        "bias": torch.randn(OUTPUTS, generator=generator),
    }
    save_file(head, folder / BRIDGE)
    told: dict[str, Any] = {
        "template": PLAIN_TEMPLATE.replace("EMBED_TOKEN", EMBED),
        "embed_token": EMBED,
        "dimension": OUTPUTS,
        "min_pixels": low,
        "max_pixels": high,
        "head": BRIDGE,
    }
    write_embedder_settings(EmbedderSettings(**(told | changes)), folder)
    return folder


def as_chat_model(source: Path, folder: Path) -> Path:
    """Copy an embedder with the class of a chat model: an LM head of its own, bfloat16, shards."""
    shutil.copytree(source, folder)
    (folder / "model.safetensors").unlink()
    base = AutoModel.from_pretrained(source)
    for part in (base.config, base.config.get_text_config()):
        part.tie_word_embeddings = False
    kinds: Any = (AutoModelForImageTextToText, AutoModelForCausalLM)
    auto = kinds[base.config.model_type in TEXT]
    whole = auto.from_config(base.config)
    whole.model.load_state_dict(base.state_dict())
    whole.to(torch.bfloat16).save_pretrained(folder, max_shard_size="60kB")
    return folder


def differences(
    loader: Any, folder: Path, model: Embedder, batches: Mapping[str, ProbeBatch]
) -> dict[str, float]:
    """Return the largest |a - b| / |b| of each batch between a loader and a model.

    Args:
        loader: a module of `puma_cli.exporting.loaders`, run in this process.
    """
    request = {
        "folder": str(folder),
        "batches": {name: plain_batch(batch) for name, batch in batches.items()},
    }
    cases = compare_answers(model, batches, loader.answer(request))
    return {case.name: case.difference for case in cases}


def stock(name: str) -> Any:
    """Return the module of a loader."""
    if name == TRANSFORMERS:
        return with_transformers
    pytest.importorskip("sentence_transformers")
    from puma_cli.exporting.loaders import with_sentence_transformers

    return with_sentence_transformers


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
