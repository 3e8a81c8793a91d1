"""An analysis shared among processes: the same profile, written once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from puma_cli.config.settings import AnalyzeSettings
from puma_cli.processes import ALONE, Processes, join, started
from puma_cli.profiling.analyze import analyze
from puma_cli.profiling.profile import LayerProfile, read_profile
from puma_cli.profiling.similarity.accumulator import SimilarityAccumulator

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def launch(count: int, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCH, str(count), "-m", "puma_cli", *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def profiles(
    tiny_checkpoint: Path, tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LayerProfile, LayerProfile, str]:
    """The profile of one process, that of two, and what these said."""
    folder = tmp_path_factory.mktemp("shared")
    asked = ["analyze", str(tiny_checkpoint), "--data", str(tiny_scenes), "-o", "two"]
    asked += ["--batch-size", "16", "--bridge-rows", "200", "--device", "cpu"]
    done = launch(2, asked, folder)
    assert done.returncode == 0, done.stderr
    alone = analyze(
        AnalyzeSettings(
            model=str(tiny_checkpoint),
            data=tiny_scenes,
            output_dir=folder / "one",
            bridge_rows=200,
            batch_size=16,
            device="cpu",
        )
    )
    assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]
    return alone, read_profile(folder / "two"), done.stdout


def close(ours: Any, theirs: Any) -> None:
    """Compare numbers that were summed in another order."""
    if isinstance(ours, tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            close(one, other)
    elif isinstance(ours, float):
        assert theirs == pytest.approx(ours, abs=1e-5)
    else:
        assert ours == theirs


def test_scores_are_those_of_one_process(
    profiles: tuple[LayerProfile, LayerProfile, str],
) -> None:
    alone, shared, _ = profiles
    assert shared.readout == alone.readout
    assert shared.retention == alone.retention
    assert shared.choice == alone.choice
    assert not shared.measured.stopped


def test_bridges_are_those_of_one_process(
    profiles: tuple[LayerProfile, LayerProfile, str],
) -> None:
    alone, shared, _ = profiles
    for name, fits in alone.bridges.items():
        for ours, theirs in zip(fits, shared.bridges[name], strict=True):
            close(tuple(vars(ours).values()), tuple(vars(theirs).values()))


def test_similarity_is_that_of_one_process(
    profiles: tuple[LayerProfile, LayerProfile, str],
) -> None:
    alone, shared, _ = profiles
    assert len(alone.similarity) == len(shared.similarity)
    for ours, theirs in zip(alone.similarity, shared.similarity, strict=True):
        close(tuple(vars(ours).values()), tuple(vars(theirs).values()))


def test_one_of_them_talks(profiles: tuple[LayerProfile, LayerProfile, str]) -> None:
    assert profiles[2].count("Recommended: keep") == 1


def test_other_commands_do_not_run_twice(tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = launch(2, ["prune", str(tiny_checkpoint), "--keep", "1", "-o", "cut"], tmp_path)
    assert done.returncode != 0
    assert "2 processes were started" in done.stderr
    assert not list(tmp_path.iterdir())


def test_alone_nothing_is_exchanged() -> None:
    assert started() == 1
    assert join() is ALONE
    tensor = torch.ones(3)
    ALONE.total(tensor)
    assert tensor.tolist() == [1.0, 1.0, 1.0]
    assert ALONE.any(True) and not ALONE.any(False)
    assert ALONE.gather("x") == ["x"]
    assert ALONE.share([1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shares_are_all(count: int) -> None:
    shares = [Processes(place, count).share(range(7)) for place in range(count)]
    assert sorted(item for share in shares for item in share) == list(range(7))


def test_merged_sums_are_those_of_all_rows() -> None:
    random = np.random.default_rng(0)
    states = torch.from_numpy(random.normal(2.0, 1.0, (4, 30, 6))).float()
    kept = torch.from_numpy(random.random(30) < 0.5)
    removed = torch.tensor([1])
    whole = SimilarityAccumulator("query", "text", 3, "embed", removed)
    whole.add(states, kept)
    parts = [SimilarityAccumulator("query", "text", 3, "embed", removed) for _ in range(3)]
    for part, rows in zip(parts[:2], (slice(0, 11), slice(11, 30)), strict=True):
        part.add(states[:, rows], kept[rows])
    parts[1].exclude(2)
    for part in parts[1:]:
        parts[0].merge(part.cpu())
    found, expected = parts[0].result(), whole.result()
    assert (found.count, found.excluded) == (30, 2)
    for name in ("cosine_grid", "angular_grid", "centred_grid", "trimmed_grid", "cka"):
        close(getattr(expected, name), getattr(found, name))
