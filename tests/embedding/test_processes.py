"""Several processes fill one index, which is that of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.embed import embed
from puma_cli.embedding.shards import records
from tests.embedding.conftest import Make
from tests.embedding.test_embed import held


def embed_by_two(settings: EmbedSettings, *other: str) -> subprocess.CompletedProcess[str]:
    words = ["embed", settings.model, *settings.inputs, "--output-dir", str(settings.output_dir)]
    words += ["--shard-rows", str(settings.shard_rows), "--format", settings.format]
    return subprocess.run(
        [sys.executable, "-m", "puma_cli", *words, "--num-processes", "2", "--json", *other],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_processes_make_the_index_of_one(make: Make, lines: Path) -> None:
    alone = make(lines, format="parquet")
    embed(alone)
    both = make(lines, format="parquet", output_dir=alone.output_dir.with_name("both"))
    done = embed_by_two(both)
    assert done.returncode == 0, done.stderr
    assert '"rows": 23' in done.stdout and '"embedded": 23' in done.stdout
    rows, vectors = held(both.output_dir)
    expected_rows, expected = held(alone.output_dir)
    assert rows == expected_rows and torch.equal(vectors, expected)
    assert not list(both.output_dir.glob(".share*"))
    # One goes on with what two have made.
    assert embed(both).embedded == 0


@pytest.mark.slow
def test_what_either_meets_ends_both(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    lines = ['{"text": "one"}\n' for _ in range(12)]
    lines[5] = "{\n"  # of the second process's first shard
    path.write_text("".join(lines))
    settings = make(path)
    done = embed_by_two(settings)
    assert done.returncode == 1
    assert "line 6 is broken" in done.stderr
    path.write_text("".join(lines[:5] + lines[6:]))
    assert embed_by_two(settings).returncode == 0
    assert [record.rows for record in records(settings.output_dir)] == [4, 4, 3]
    done = embed_by_two(settings, "--engine", "ray")
    assert done.returncode == 2 and "--workers" in done.stderr
