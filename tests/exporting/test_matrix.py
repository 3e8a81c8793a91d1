"""Every architecture in every format makes its vectors in every loader."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import normalize

from puma_cli.config.settings import ExportSettings
from puma_cli.exporting.export import export
from puma_cli.exporting.formats import FORMATS, SENTENCE_TRANSFORMERS, TRANSFORMERS
from puma_cli.exporting.loaders import with_transformers
from puma_cli.exporting.parity.check import OTHER_BATCH, SAME_BATCH
from puma_cli.exporting.parity.probes import probe_batches
from puma_cli.exporting.parity.reference import reference
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.opening import load
from tests.exporting.architectures import (
    ARCHITECTURES,
    CAUGHT,
    VISION,
    Made,
    as_chat_model,
    build_embedder,
    differences,
    edit,
    stock,
)
from tests.exporting.conftest import without_torchvision


@pytest.mark.parametrize(
    ("format_", "loader"),
    [*((name, TRANSFORMERS) for name in FORMATS), (SENTENCE_TRANSFORMERS, SENTENCE_TRANSFORMERS)],
)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_loader_makes_the_same_vectors(
    make: Callable[[str], Made], kind: str, format_: str, loader: str
) -> None:
    """Text, image, both; queries and documents; padded left and right; one and many."""
    made = make(kind)
    folder = made.opened if loader == SENTENCE_TRANSFORMERS else made.exported / format_
    found = differences(stock(loader), folder, made.model, made.batches)
    assert len(found) == (18 if kind in VISION else 6)
    for name, difference in found.items():
        assert difference <= (SAME_BATCH if made.batches[name].exact else OTHER_BATCH), name


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_first_dimensions_of_a_bridge_are_exported(
    make: Callable[[str], Made], kind: str, tmp_path: Path
) -> None:
    made = make(kind)
    settings = ExportSettings(
        str(made.model.folder), tmp_path / "out", dimensions=16, dtype="bfloat16", verify=False
    )
    assert export(settings).dimension == 16
    whole = reference(Path(settings.model), "bfloat16", made.model.head)
    short = load(settings.output_dir, "cpu", "float32")
    assert short.head is not None and short.head.outputs == 16
    reference_ = reference(settings.output_dir, "float32", short.head)
    opened = settings.output_dir
    if kind in VISION:
        opened = without_torchvision(opened, tmp_path / "opened")
    found = differences(stock(SENTENCE_TRANSFORMERS), opened, reference_, made.batches)
    assert max(found.values()) <= OTHER_BATCH
    inputs = [entry for batch in made.batches.values() for entry in batch.inputs]
    expected = normalize(whole.encode(inputs)[:, :16], dim=1)
    torch.testing.assert_close(short.encode(inputs), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["qwen3_vl", "qwen3"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_other_poolings_are_carried(tmp_path: Path, kind: str, pooling: str) -> None:
    # What all prompts begin with has always the same state: this one begins with what is asked.
    template = (
        "{%- for message in messages -%}{%- if message.content is string -%}{{ message.content }}"
        "{%- else -%}{%- for part in message.content -%}"
        "{%- if part.type == 'image' -%}<|image_pad|>{%- else -%}{{ part.text }}{%- endif -%}"
        "{%- endfor -%}{%- endif -%}{%- endfor -%}<|embed|>"
    )
    changes: dict[str, Any] = {"pooling": pooling, "template": template}
    folder = build_embedder(tmp_path / "model", kind, **changes)
    export(ExportSettings(str(folder), tmp_path / "out", verify=False))
    model = reference(folder, "float32", load(folder, "cpu").head)
    batches = probe_batches(tmp_path, kind in VISION)
    opened = tmp_path / "out"
    found = differences(with_transformers, opened, model, batches)
    if kind in VISION:
        opened = without_torchvision(opened, tmp_path / "opened")
    there = differences(stock(SENTENCE_TRANSFORMERS), opened, model, batches)
    assert max(*found.values(), *there.values()) <= OTHER_BATCH
    # Read elsewhere, the vectors are others.
    edit(tmp_path / "out" / "embedder.json", lambda told: told.update(pooling="last"))
    assert max(differences(with_transformers, tmp_path / "out", model, batches).values()) > CAUGHT


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_chat_model_in_shards_is_exported(
    make: Callable[[str], Made], kind: str, tmp_path: Path
) -> None:
    made = make(kind)
    assert made.model.folder is not None
    folder = as_chat_model(made.model.folder, tmp_path / "chat")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    export(ExportSettings(str(folder), tmp_path / "out", format="vllm", verify=False))
    model = reference(folder, "auto", load(folder, "cpu").head)
    found = differences(with_transformers, tmp_path / "out", model, made.batches)
    for name, difference in found.items():
        assert difference <= (SAME_BATCH if made.batches[name].exact else OTHER_BATCH), name
    check_vllm(tmp_path / "out", kind)
    check_vllm(made.exported / "vllm", kind)


# How vLLM renames what it reads, and what its modules are then called.
MAPPED = {
    "qwen2_vl": (("visual.", "visual."), ("model.", "language_model.model.")),
    "qwen2_5_vl": (("visual.", "visual."), ("model.", "language_model.model.")),
    "qwen3_vl": (
        ("model.visual.", "visual."),
        ("model.language_model.", "language_model.model."),
    ),
    "qwen2": (("model.", "model."),),
    "qwen3": (("model.", "model."),),
}
MODULES = re.compile(
    r"(language_model\.)?model\.(layers\.\d+\.\S+|embed_tokens\.weight|norm\.weight)"
    r"|visual\.(blocks|merger|patch_embed|deepstack_merger_list|pos_embed)\.\S+"
)


def check_vllm(folder: Path, kind: str) -> None:
    """Check that vLLM has a module for every tensor, and no head of its own to look for."""
    tensors = {name for file in folder.glob("*.safetensors") for name in _names(file)}
    assert "lm_head.weight" not in tensors
    for name in tensors:
        prefix, new = next(pair for pair in MAPPED[kind] if name.startswith(pair[0]))
        assert MODULES.fullmatch(new + name.removeprefix(prefix)), name
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"][0].endswith(
        "ForConditionalGeneration" if kind in VISION else "ForCausalLM"
    )
    assert config["tie_word_embeddings"] is True
    assert config.get("text_config", config)["tie_word_embeddings"] is True


def _names(file: Path) -> set[str]:
    return set() if file.name == BRIDGE else set(load_file(file))
