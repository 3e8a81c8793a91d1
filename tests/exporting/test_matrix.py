"""Every architecture in every format makes its vectors in every loader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from puma_cli.config.settings import ExportSettings
from puma_cli.exporting.export import export
from puma_cli.exporting.formats import FORMATS, SENTENCE_TRANSFORMERS, TRANSFORMERS
from puma_cli.exporting.loaders import with_transformers
from puma_cli.exporting.parity.check import OTHER_BATCH, SAME_BATCH
from puma_cli.exporting.parity.probes import probe_batches
from puma_cli.exporting.parity.reference import reference
from puma_cli.models.opening import load
from tests.exporting.architectures import (
    ARCHITECTURES,
    CAUGHT,
    VISION,
    Made,
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
