"""SIGKILL at any moment loses the unfinished file alone, and the end result is the same bits."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from puma_cli.encoding.fill import Filling, unit_vectors
from puma_cli.encoding.shards import shard_files
from puma_cli.encoding.store import VectorStore
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.processing import Batch

ROWS, BATCH = 8, 3


def encode_in_child(folder: Path, embedder: Embedder, inputs: list[Input], log: Path) -> int:
    """Start a process that fills the store and notes each row that it embeds; return its id."""
    child = os.fork()
    if child:
        return child
    try:
        counter = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def read(model: Embedder, batch: Batch) -> torch.Tensor:
            # So slow that a kill can come between any two steps.
            time.sleep(0.005)
            os.write(counter, b"." * len(batch.input_ids))
            return unit_vectors(model, batch)

        filling = Filling(lambda: embedder, read, batch_size=BATCH, rows=ROWS)
        found = filling.fill(VectorStore(folder), inputs)
        os._exit(0 if found is not None else 3)
    finally:
        os._exit(4)


def kill_and_resume(
    tmp_path: Path, embedder: Embedder, inputs: list[Input], kills: int, seed: int
) -> None:
    expected = Filling(lambda: embedder, batch_size=BATCH, rows=ROWS).fill(
        VectorStore(tmp_path / "whole"), inputs
    )
    assert expected is not None
    random_ = random.Random(seed)
    folder, log = tmp_path / "killed", tmp_path / "log"
    killed = finished = 0
    while killed < kills:
        child = encode_in_child(folder, embedder, inputs, log)
        time.sleep(random_.uniform(0.0, 0.25))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        else:
            assert os.WEXITSTATUS(status) == 0
        lost = log.stat().st_size if log.exists() else 0
        held = sum(len(load_file(file)["keys"]) for file in shard_files(folder))
        # Rows that were embedded and are not on disk: less than a file and a batch for each kill.
        assert 0 <= lost - held - finished <= killed * (ROWS + BATCH - 1)
        if held == len(inputs):
            # Nothing is left to kill: once more from the start.
            finished += held
            for file in folder.iterdir():
                file.unlink()
    child = encode_in_child(folder, embedder, inputs, log)
    assert os.waitpid(child, 0)[1] == 0
    found = Filling(lambda: embedder).fill(VectorStore(folder), inputs)
    assert found is not None
    assert torch.equal(found.rows(0, len(inputs)), expected.rows(0, len(inputs)))
    embedded = log.stat().st_size - finished
    assert len(inputs) <= embedded <= len(inputs) + kills * (ROWS + BATCH - 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_few_kills(tmp_path: Path, embedder: Embedder, inputs: list[Input], seed: int) -> None:
    kill_and_resume(tmp_path, embedder, inputs, 4, seed)


@pytest.mark.slow
def test_fifty_kills(tmp_path: Path, embedder: Embedder, inputs: list[Input]) -> None:
    kill_and_resume(tmp_path, embedder, inputs, 50, 2)
