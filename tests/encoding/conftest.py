"""Inputs, a model that counts what it embeds, and stores for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load


@pytest.fixture(scope="session")
def embedder(tiny_checkpoint: Path) -> Embedder:
    return load(tiny_checkpoint, "cpu")


@pytest.fixture(scope="session")
def inputs(tiny_scenes: Path) -> list[Input]:
    """Distinct queries and candidates of all kinds, and texts of many lengths."""
    data = MbeirFolder(tiny_scenes)
    found = [candidate.to_input() for candidate in data.union_pool("test")][:60]
    for task in data.tasks("test"):
        found += [q.to_input(data.instructions.pick(q)) for q in data.queries("test", task)[:3]]
    found += [Input(text="small red circle " * count) for count in range(1, 25)]
    return list(dict.fromkeys(found))
