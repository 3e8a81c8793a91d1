"""The whole analysis: what it writes, and what it refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.config.settings import AnalyzeSettings
from puma_cli.errors import CheckpointError, ConfigError, DataError, OutputError, PumaError
from puma_cli.models.embedder import Embedder
from puma_cli.profiling.analyze import analyze, count_parameters
from puma_cli.profiling.profile import read_profile


@pytest.fixture
def settings(tiny_checkpoint: Path, data_folder: Path, tmp_path: Path) -> AnalyzeSettings:
    return AnalyzeSettings(
        model=str(tiny_checkpoint), data=data_folder, output_dir=tmp_path / "profile", device="cpu"
    )


def test_folder(settings: AnalyzeSettings, embedder: Embedder) -> None:
    profile = analyze(settings)
    names = {path.name for path in settings.output_dir.iterdir()}
    assert names == {
        "profile.json",
        "report.html",
        "readout.png",
        "similarity.png",
        "tasks.png",
        "puma.json",
    }
    assert read_profile(settings.output_dir) == profile
    assert profile.depth == embedder.depth
    assert profile.parameters[-1] == sum(p.numel() for p in embedder.model.parameters())
    found = read_provenance(settings.output_dir)
    assert found is not None
    assert found.command == "analyze"
    assert [parent.role for parent in found.parents] == ["model", "data"]
    assert found.results["recommended"] == profile.recommended
    page = (settings.output_dir / "report.html").read_text()
    assert f"--profile {settings.output_dir}" in page


def test_same_input_same_bytes(settings: AnalyzeSettings) -> None:
    analyze(settings)
    before = (settings.output_dir / "profile.json").read_bytes()
    drawing = (settings.output_dir / "report.html").read_bytes()
    analyze(replace(settings, overwrite=True))
    assert (settings.output_dir / "profile.json").read_bytes() == before
    assert (settings.output_dir / "report.html").read_bytes() == drawing


def test_parameters_of_every_cut(embedder: Embedder) -> None:
    counts = count_parameters(embedder)
    layer = sum(p.numel() for p in embedder.decoder.layers[0].parameters())
    assert [b - a for a, b in pairwise(counts)] == [layer] * embedder.depth


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "absent-folder/x/y"}, CheckpointError),
        ({"split": "test"}, DataError),
        ({"tasks": "nothing*"}, DataError),
        ({"limit": 0}, ConfigError),
        ({"retention": 1.5}, ConfigError),
    ],
)
def test_refusals_leave_nothing_behind(
    settings: AnalyzeSettings, change: dict[str, Any], error: type[PumaError]
) -> None:
    with pytest.raises(error):
        analyze(replace(settings, **change))
    assert not list(settings.output_dir.parent.iterdir())


def test_missing_data(settings: AnalyzeSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        analyze(replace(settings, data=tmp_path / "absent"))


def test_folder_that_is_taken(settings: AnalyzeSettings) -> None:
    settings.output_dir.mkdir()
    (settings.output_dir / "mine.txt").write_text("mine")
    with pytest.raises(OutputError):
        analyze(settings)
    assert (settings.output_dir / "mine.txt").read_text() == "mine"


def test_a_profile_never_replaces_the_data(settings: AnalyzeSettings, tmp_path: Path) -> None:
    data = shutil.copytree(settings.data, tmp_path / "data")
    (data / "puma.json").write_text("{}")
    with pytest.raises(OutputError, match="which the result is made from"):
        analyze(replace(settings, data=data, output_dir=data, overwrite=True))
    assert (data / "query").is_dir()
