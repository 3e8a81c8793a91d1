"""Exports of a tiny model, made once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from puma_cli.config.settings import ExportSettings
from puma_cli.exporting.export import export
from puma_cli.exporting.formats import SENTENCE_TRANSFORMERS
from puma_cli.exporting.parity.probes import probe_batches
from puma_cli.exporting.parity.reference import reference
from puma_cli.models.opening import load
from tests.exporting.architectures import VISION, Made, build_embedder
from tests.headed import add_head


@pytest.fixture(scope="session")
def headed_model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of width 32 whose head gives 24 numbers."""
    return add_head(tiny_checkpoint, tmp_path_factory.mktemp("headed") / "model", outputs=24)


@pytest.fixture(scope="session")
def exported(headed_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a head in all formats, each in a folder of its own; not yet compared."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(ExportSettings(str(headed_model), folder, format="all", verify=False))
    return folder


def without_torchvision(source: Path, folder: Path) -> Path:
    """Copy a folder, named so that the stock processor of Qwen2-VL is another, equal in effect.

    Qwen2-VL's own asks for a processor of videos, and that for torchvision, which these tests do
    without.
    """
    shutil.copytree(source, folder)
    name = {"processor_class": "PaddleOCRVLProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(name))
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text())
    content["extra_special_tokens"] = {"image_token": "<|image_pad|>"}
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Return what makes an architecture's model and exports, once."""

    @cache
    def made(kind: str) -> Made:
        root = tmp_path_factory.mktemp(kind)
        folder, exported = build_embedder(root / "model", kind), root / "exported"
        export(ExportSettings(str(folder), exported, format="all", verify=False))
        opened = exported / SENTENCE_TRANSFORMERS
        if kind in VISION:
            opened = without_torchvision(opened, root / "opened")
        model = reference(folder, "float32", load(folder, "cpu").head)
        return Made(model, exported, opened, probe_batches(root, kind in VISION))

    return made
