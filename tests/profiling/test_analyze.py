"""The whole analysis: what it writes, and what it refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.config.settings import AnalyzeSettings, PruneSettings
from puma_cli.errors import CheckpointError, ConfigError, DataError, OutputError, PumaError
from puma_cli.models.embedder import Embedder
from puma_cli.models.head_file import BRIDGE
from puma_cli.profiling.analyze import analyze
from puma_cli.profiling.bridges.bridge_file import BRIDGES
from puma_cli.profiling.cost.depth_cost import DepthCost
from puma_cli.profiling.plan import memory_needed, plan_analysis
from puma_cli.profiling.profile import read_profile
from puma_cli.progress import Reporter
from puma_cli.pruning.prune import prune


@pytest.fixture
def settings(tiny_checkpoint: Path, tiny_scenes: Path, tmp_path: Path) -> AnalyzeSettings:
    return AnalyzeSettings(
        model=str(tiny_checkpoint),
        data=tiny_scenes,
        output_dir=tmp_path / "profile",
        bridge_rows=200,
        batch_size=64,
        device="cpu",
    )


def test_folder(settings: AnalyzeSettings, embedder: Embedder) -> None:
    profile = analyze(settings)
    names = {path.name for path in settings.output_dir.iterdir()}
    assert {"profile.json", "report.html", "puma.json", BRIDGES} < names
    assert {"readout.png", "similarity.png", "tasks.png"} < names
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


def untimed(cost: DepthCost) -> DepthCost:
    """The cost without what a clock says."""
    return replace(cost, latency_query=0.0, queries_per_second=0.0, candidates_per_second=0.0)


class Listener(Reporter):
    """Keeps the sentences that it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        """Keep a sentence."""
        self.told.append(text)


def test_same_input_same_numbers_but_for_the_clock(settings: AnalyzeSettings) -> None:
    first = analyze(settings)
    maps = (settings.output_dir / BRIDGES).read_bytes() if settings.bridge_rows else b""
    again = analyze(replace(settings, overwrite=True))
    assert replace(again, costs=()) == replace(first, costs=())
    assert [untimed(cost) for cost in again.costs] == [untimed(cost) for cost in first.costs]
    assert (settings.output_dir / BRIDGES).read_bytes() == maps


def test_parameters_of_every_cut(settings: AnalyzeSettings, embedder: Embedder) -> None:
    profile = analyze(settings)
    layer = sum(p.numel() for p in embedder.decoder.layers[0].parameters())
    assert [b - a for a, b in pairwise(profile.parameters)] == [layer] * embedder.depth
    assert [cost.parameters for cost in profile.costs] == list(profile.parameters[1:])


def test_without_a_training_split_there_is_no_bridge(
    settings: AnalyzeSettings, data_folder: Path
) -> None:
    listener = Listener()
    profile = analyze(replace(settings, data=data_folder), listener)
    assert profile.readings == ("first", "first_to_full", "keep_last")
    assert profile.bridges == {} and not (settings.output_dir / BRIDGES).exists()
    assert any("no training split" in line for line in listener.told)


def test_queries_and_pools_that_are_left_out_are_told(settings: AnalyzeSettings) -> None:
    whole = analyze(replace(settings, bridge_rows=0))
    assert not whole.partial and whole.bridges == {}
    fewer = analyze(replace(settings, bridge_rows=0, samples=16, overwrite=True))
    assert fewer.partial and fewer.queries == 16
    assert {row.queries for row in fewer.readout} == {2}
    smaller = analyze(replace(settings, bridge_rows=0, pool_size=10, overwrite=True))
    assert smaller.partial and smaller.queries == whole.queries
    assert all(
        row.candidates < old.candidates
        for row, old in zip(smaller.readout, whole.readout, strict=True)
    )


def test_a_model_that_says_the_same_of_everything_is_measured_and_told_so(
    settings: AnalyzeSettings, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(settings.model, tmp_path / "constant"))
    weights = load_file(folder / "model.safetensors")
    (name,) = (name for name in weights if "embed_tokens" in name)
    weights[name][:] = weights[name][5].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    profile = analyze(replace(settings, model=str(folder), tasks="*_task1"))
    assert profile.choice.rule == "share" and "near chance" in profile.reason
    assert all(set(curve.share) == {None} for curve in profile.retention.values())
    text = profile.at_embed[0]
    assert text.modality == "text" and set(text.centred) == {None}
    assert read_profile(settings.output_dir) == profile


def test_a_cut_takes_its_bridge_from_the_profile_without_data(
    settings: AnalyzeSettings, tmp_path: Path
) -> None:
    """The same head that `--bridge` fits on the same rows; another model's profile is refused."""
    analyze(settings)
    for k, last in ((2, False), (3, True)):
        ready, fitted = tmp_path / f"ready-{k}", tmp_path / f"fitted-{k}"
        asked = PruneSettings(settings.model, ready, keep=k, keep_last=last, verify="none")
        prune(replace(asked, bridge_from=settings.output_dir))
        prune(
            replace(
                asked, output_dir=fitted, bridge=True, data=settings.data,
                bridge_rows=settings.bridge_rows,
            )
        )  # fmt: skip
        ours, theirs = (load_file(folder / BRIDGE) for folder in (ready, fitted))
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
        history = read_provenance(ready)
        assert history is not None
        assert [parent.role for parent in history.parents] == ["model", "profile"]


def test_a_bridge_that_the_profile_lacks_is_refused(
    settings: AnalyzeSettings, tmp_path: Path
) -> None:
    analyze(replace(settings, bridge_rows=60))
    asked = PruneSettings(
        settings.model, tmp_path / "cut", layers="1-2", verify="none",
        bridge_from=settings.output_dir,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"no bridge for the layers \[1, 2\]"):
        prune(asked)
    (settings.output_dir / BRIDGES).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read"):
        prune(replace(asked, layers="0-1"))
    with pytest.raises(ConfigError, match="asked for twice"):
        prune(replace(asked, layers="0-1", bridge=True, data=settings.data))
    other = Path(shutil.copytree(settings.model, tmp_path / "other"))
    edit = load_file(other / "model.safetensors")
    edit[next(iter(edit))] += 1.0
    save_file(edit, other / "model.safetensors")
    with pytest.raises(ConfigError, match="is not of the model"):
        prune(replace(asked, model=str(other), layers="0-1"))
    assert not (tmp_path / "cut").exists()


def test_a_dry_run_states_what_the_analysis_holds(
    settings: AnalyzeSettings, embedder: Embedder
) -> None:
    plan = plan_analysis(replace(settings, dry_run=True))
    profile = analyze(settings)
    assert (plan.depth, plan.width) == (embedder.depth, embedder.width)
    assert plan.queries == profile.queries and plan.passes == 1
    maps = load_file(settings.output_dir / BRIDGES)
    assert plan.written == sum(tensor.nbytes for tensor in maps.values())
    assert plan.memory["fitted bridges"] == plan.written
    assert not plan_analysis(replace(settings, bridge_rows=0)).written


def test_the_plan_of_a_7b_model() -> None:
    """D = 3584, L = 28: two passes over the training rows, or one where there is room."""
    shape = {"depth": 28, "width": 3584, "outputs": 3584, "held": 5000, "rows": 8000}
    memory, passes, written = memory_needed(**shape, keep_last=True, tokens=True)
    assert passes == 2 and written == 4 * 53 * 3584 * 3585
    assert memory["sums of squares for the bridges"] <= 8 << 30
    assert memory_needed(**shape, keep_last=False, tokens=True)[1] == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "absent-folder/x/y"}, CheckpointError),
        ({"split": "absent"}, ConfigError),
        ({"samples": 0}, ConfigError),
        ({"bridge_rows": 5}, ConfigError),
        ({"tasks": "nothing*"}, DataError),
        ({"limit": 0}, ConfigError),
        ({"target_retention": 1.5}, ConfigError),
        ({"max_parameters": "many"}, ConfigError),
        ({"max_parameters": "10"}, ConfigError),
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
