"""The demo on a tiny model: its stages, its result, and going on after a stop."""

import shlex
from pathlib import Path

import pytest

from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.cli.app import run
from puma_cli.config.settings import DemoSettings
from puma_cli.demo import stages
from puma_cli.demo.folders import open_demo
from puma_cli.demo.stages import Scale, run_demo
from puma_cli.errors import ConfigError, OutputError
from puma_cli.interruption import Stopped
from puma_cli.progress import Reporter

STAGES = 8


class Notes(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def count(self, words: str) -> int:
        return sum(words in note for note in self.notes)


@pytest.fixture
def tiny(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> DemoSettings:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "train: {steps: 4, validate_every: 2, validation_limit: 1}\n"
        "batch: {size: 8}\nloss: {cosine: 1.0}\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(stages, "FULL", Scale(40, 3, 3, 200, str(recipe)))
    return DemoSettings(output_dir=tmp_path / "demo", model=str(tiny_checkpoint), keep=2)


def test_the_demo_runs_and_goes_on_where_it_stopped(
    tiny: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny.output_dir

    def stop(settings: object, reporter: Reporter) -> None:
        raise Stopped("Stopped after step 2 of 4.", exit_code=130, hint="--resume")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "distill", stop)
        with pytest.raises(Stopped, match="same command again"):
            run_demo(tiny, Notes())
    known = read_provenance(root)
    assert known is not None
    assert known.command == "demo"
    assert known.results["finished"] is False
    assert {"scenes", "profile", "pruned"} <= set(known.results["seconds"])

    notes = Notes()
    result = run_demo(tiny, notes)
    assert notes.count("done before") == 3
    assert [row.layers for row in result.rows] == [4, 2, 2]
    assert result.rows[0].parameters > result.rows[1].parameters == result.rows[2].parameters
    assert all(row.latency > 0 and row.disk > 0 for row in result.rows)
    assert result.recommended in {1, 2, 3, 4}
    page = result.page.read_text(encoding="utf-8")
    assert "puma distill" in page
    assert "<svg" in page
    assert "data:image/png" in page
    assert (root / "student" / "config.json").is_file()

    assert run(shlex.split(result.search)[1:]) == 0
    assert "data:image/png" in (root / "found.html").read_text(encoding="utf-8")

    notes = Notes()
    again = run_demo(tiny, notes)
    assert notes.count("done before") == STAGES
    assert [row.scores for row in again.rows] == [row.scores for row in result.rows]
    known = read_provenance(root)
    assert known is not None
    assert known.results["finished"] is True

    # Another student makes its old scores and index stale, and nothing else.
    model = root / "student" / "model.safetensors"
    model.write_bytes((root / "student" / "last" / "model.safetensors").read_bytes()[:-1] + b"\1")
    notes = Notes()
    run_demo(tiny, notes)
    assert notes.count("done before") == STAGES - 2


def test_stages_of_different_settings_do_not_mix(tiny: DemoSettings, tmp_path: Path) -> None:
    open_demo(tiny)
    other = DemoSettings(output_dir=tiny.output_dir, model=tiny.model, keep=3)
    with pytest.raises(OutputError, match=r"keep 2, not 3"):
        run_demo(other)
    moved = DemoSettings(output_dir=tiny.output_dir, model=tiny.model, keep=2, device="cpu")
    assert open_demo(moved) == {}


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_peoples_folders_are_left_alone(tiny: DemoSettings, overwrite: bool) -> None:
    tiny.output_dir.mkdir()
    (tiny.output_dir / "mine.txt").write_text("keep me", encoding="utf-8")
    asked = DemoSettings(tiny.output_dir, model=tiny.model, keep=2, overwrite=overwrite)
    with pytest.raises(OutputError):
        run_demo(asked)
    assert [path.name for path in tiny.output_dir.iterdir()] == ["mine.txt"]


def test_overwrite_starts_anew(tiny: DemoSettings) -> None:
    open_demo(tiny)
    (tiny.output_dir / "scenes").mkdir()
    asked = DemoSettings(tiny.output_dir, model=tiny.model, keep=3, overwrite=True)
    assert open_demo(asked) == {}
    assert [path.name for path in tiny.output_dir.iterdir()] == ["puma.json"]


def test_an_unfit_recipe_fails_before_anything_is_written(tiny: DemoSettings) -> None:
    asked = DemoSettings(tiny.output_dir, model=tiny.model, keep=2, recipe="dem")
    with pytest.raises(ConfigError, match=r"Did you mean demo\?"):
        run_demo(asked)
    assert not tiny.output_dir.exists()


def test_the_plan_is_the_path_of_the_data(tiny: DemoSettings) -> None:
    plan = stages.plan_stages(tiny, stages.FULL)
    assert [stage.command.split()[1] for stage in plan] == [
        "data",
        "analyze",
        "prune",
        "distill",
        "eval",
        "eval",
        "eval",
        "embed",
    ]
    assert not any(stage.finished for stage in plan)
