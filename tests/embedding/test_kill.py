"""SIGKILL at any moment loses the shard in hand alone, and the end result is the same bits."""

from __future__ import annotations

import importlib
import os
import random
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.embed import embed
from puma_cli.embedding.row_embedder import EmbeddedRows, RowEmbedder
from puma_cli.embedding.shards import records
from puma_cli.models.embedder import Embedder
from tests.embedding.conftest import Make
from tests.embedding.test_embed import held

SHARD = 4


class Slow(RowEmbedder):
    """Notes each shard that it embeds, so slowly that a kill can come between any two steps."""

    log = -1

    def steps(self, items):  # type: ignore[no-untyped-def]
        found: Generator[int, None, EmbeddedRows] = super().steps(items)
        time.sleep(0.01)
        result = yield from found
        os.write(self.log, b"." * len(items))
        time.sleep(0.01)
        return result


def embed_in_child(settings: EmbedSettings, embedder: Embedder, log: Path) -> int:
    """Start a process that embeds, with a model that is open already; return its id."""
    child = os.fork()
    if child:
        return child
    try:
        slow = Slow(embedder)
        slow.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        module: Any = importlib.import_module("puma_cli.embedding.shard_maker")
        module.open_row_embedder = lambda *given, **named: slow
        embed(settings)
        os._exit(0)
    finally:
        os._exit(4)


def kill_and_go_on(
    make: Make, lines: Path, embedder: Embedder, form: str, kills: int, seed: int
) -> None:
    settings = make(lines, format=form, shard_rows=SHARD)
    whole = make(lines, format=form, output_dir=settings.output_dir.with_name("whole"))
    embed(whole)
    log, draws = settings.output_dir.with_name("log"), random.Random(seed)
    killed = finished = 0
    while killed < kills:
        child = embed_in_child(settings, embedder, log)
        time.sleep(draws.uniform(0.0, 0.3))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        there = sum(record.read for record in records(settings.output_dir))
        embedded = log.stat().st_size if log.exists() else 0
        # What was embedded and is not there: at most a shard for each kill.
        assert 0 <= embedded - there - finished <= killed * SHARD
        if there == 23:
            # Nothing is left to kill: once more from the start.
            finished += there
            for record in (settings.output_dir / "shards").glob("*.json"):
                record.unlink()
    child = embed_in_child(settings, embedder, log)
    assert os.waitpid(child, 0)[1] == 0
    rows, vectors = held(settings.output_dir)
    other_rows, other_vectors = held(whole.output_dir)
    assert rows == other_rows and torch.equal(vectors, other_vectors)
    shards = settings.output_dir / "shards"
    assert {path.name for path in shards.iterdir()} == {
        path.name for path in (whole.output_dir / "shards").iterdir()
    }


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_a_few_kills(make: Make, lines: Path, embedder: Embedder, form: str) -> None:
    kill_and_go_on(make, lines, embedder, form, 4, 0)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["npy", "safetensors", "parquet"])
def test_fifty_kills(make: Make, lines: Path, embedder: Embedder, form: str) -> None:
    kill_and_go_on(make, lines, embedder, form, 50, 1)
