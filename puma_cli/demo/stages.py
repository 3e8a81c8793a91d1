"""`puma demo`: profile, cut, distil and score one model, each stage a folder."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from puma_cli.checkpoint.inspection import CHANGED, inspect_folder
from puma_cli.checkpoint.layout import CONFIG, TRAINING
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.config.index_settings import EmbedSettings
from puma_cli.config.loading import load_settings
from puma_cli.config.settings import AnalyzeSettings, DemoSettings, EvaluateSettings, PruneSettings
from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.scenes.dataset import make_scenes
from puma_cli.demo.folders import DemoFolders, open_demo, record
from puma_cli.demo.outcome import TARGET, DemoResult, conclude
from puma_cli.distillation.distill import distill
from puma_cli.embedding.embed import embed
from puma_cli.embedding.index_file import INDEX_FILE, read_description
from puma_cli.errors import PumaError
from puma_cli.evaluation.evaluate import evaluate
from puma_cli.profiling.analyze import analyze
from puma_cli.profiling.recommendation.predictor import shipped_predictor
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.prune import prune


@dataclass(frozen=True)
class Scale:
    """How much a demo does.

    Args:
        train_scenes: scenes to train on, a query of each task on every one.
        val_targets: validation queries of each task; `test_targets` likewise. The pools grow with
            both.
        bridge_rows: training inputs that the analysis fits its bridges on.
        recipe: the settings of the distillation.
    """

    train_scenes: int
    val_targets: int
    test_targets: int
    bridge_rows: int
    recipe: str


# For a small model few rows are plenty, and the demo is to take minutes.
FULL = Scale(2_000, 60, 200, 2_000, "demo")
FAST = Scale(500, 20, 60, 1_000, "demo-fast")
# Timing every depth takes a while on two cores; batches of this size tell as much.
BATCH = 64


@dataclass(frozen=True)
class Stage:
    """One stage of the demo.

    Args:
        name: its key in the demo's puma.json.
        label: what is said of it.
        folder: what it fills.
        command: what one would type to do the same by hand.
        run: does it.
    """

    name: str
    label: str
    folder: Path
    command: str
    run: Callable[[Reporter], object]

    @property
    def finished(self) -> bool:
        """Whether the folder holds the stage's whole result."""
        if (self.folder / TRAINING).is_dir():
            return False
        if (self.folder / INDEX_FILE).is_file() and not read_description(self.folder).complete:
            return False
        return self.folder.is_dir() and read_provenance(self.folder) is not None

    @property
    def stale(self) -> bool:
        """Whether something that the folder was made from is another one now."""
        return any(parent.state == CHANGED for parent in inspect_folder(self.folder).parents)


def run_demo(settings: DemoSettings, reporter: Reporter = SILENT) -> DemoResult:
    """Run every stage that is not finished yet, and write `demo.html`.

    Stopped at any point, the same call goes on from the last finished stage; a distillation goes on
    from its last saved state.

    Raises:
        OutputError: the folder holds something else, or a demo with other settings.
        PumaError: whatever a stage raises.
    """
    stages = plan_stages(settings, FAST if settings.fast else FULL)
    seconds = open_demo(settings)
    for number, stage in enumerate(stages, start=1):
        place = f"[{number}/{len(stages)}]"
        if stage.finished:
            if not stage.stale:
                reporter.note(f"{place} {stage.label}: done before, in {stage.folder}")
                continue
            # An earlier stage was removed and made anew, so this one belongs to its old result.
            shutil.rmtree(stage.folder)
        reporter.note(f"{place} {stage.label}")
        began = time.monotonic()
        try:
            stage.run(reporter)
        except PumaError as error:
            # A training that was stopped proposes its own --resume; here the demo does that.
            if error.exit_code > 128:
                error.hint = "Type the same command again to go on from there."
            raise
        finally:
            seconds[stage.name] = seconds.get(stage.name, 0.0) + time.monotonic() - began
            record(settings, seconds, finished=False)
    reporter.note("Measuring the time of one query, and writing the report")
    commands = [stage.command for stage in stages]
    result = conclude(settings, DemoFolders(settings.output_dir), seconds, commands)
    record(settings, seconds, finished=True, results=result.numbers)
    return result


def plan_stages(settings: DemoSettings, scale: Scale) -> list[Stage]:
    """Return the stages in order; nothing is run or written.

    Raises:
        ConfigError: the recipe does not fit.
    """
    folders = DemoFolders(settings.output_dir)
    stages = [
        _draw(settings, folders, scale),
        _analyze(settings, folders, scale),
        _prune(settings, folders),
        _distill(settings, folders, scale),
    ]
    for who, model, label in (
        ("teacher", settings.model, "Scoring the full model on test"),
        ("cut", str(folders.cut), "Scoring the untrained cut on test"),
        ("student", str(folders.student), "Scoring the student on test"),
    ):
        stages.append(_evaluate(settings, folders, who, model, label))
    return [*stages, _embed(settings, folders)]


def _draw(settings: DemoSettings, folders: DemoFolders, scale: Scale) -> Stage:
    sizes = ("train_scenes", "val_targets", "test_targets")
    flags = [f"--{name.replace('_', '-')}={getattr(scale, name)}" for name in sizes]
    return Stage(
        "scenes",
        "Drawing the scenes",
        folders.scenes,
        _command("data", "scenes", "--output-dir", folders.scenes, *flags),
        lambda reporter: make_scenes(
            folders.scenes,
            seed=settings.seed,
            train_scenes=scale.train_scenes,
            val_targets=scale.val_targets,
            test_targets=scale.test_targets,
            reporter=reporter,
        ),
    )


def _analyze(settings: DemoSettings, folders: DemoFolders, scale: Scale) -> Stage:
    asked = AnalyzeSettings(
        model=settings.model,
        data=folders.scenes,
        output_dir=folders.profile,
        bridge_rows=scale.bridge_rows,
        batch_size=BATCH,
        # The demo cuts to first layers, so it looks at no other cuts.
        keep_last=False,
        # Without a prediction, a target would be held against cuts that nothing trains.
        target_retention=TARGET if shipped_predictor() else None,
        device=settings.device,
    )
    words = ["analyze", asked.model, "--data", asked.data, "--bridge-rows", asked.bridge_rows]
    words += ["--batch-size", asked.batch_size, "--no-keep-last"]
    words += ["--target-retention", TARGET] if asked.target_retention else []
    words += ["--output-dir", asked.output_dir]
    return Stage(
        "profile",
        f"Measuring every layer of {settings.model} on val",
        folders.profile,
        _command(*words),
        partial(analyze, asked),
    )


def _prune(settings: DemoSettings, folders: DemoFolders) -> Stage:
    asked = PruneSettings(model=settings.model, output_dir=folders.cut, keep=settings.keep)
    return Stage(
        "pruned",
        f"Cutting to the first {settings.keep} layers",
        folders.cut,
        _command("prune", asked.model, "--keep", asked.keep, "--output-dir", asked.output_dir),
        partial(prune, asked),
    )


def _distill(settings: DemoSettings, folders: DemoFolders, scale: Scale) -> Stage:
    recipe = settings.recipe or scale.recipe
    asked = load_settings(
        DistillSettings,
        config=recipe,
        flags={
            "student": str(folders.cut),
            "teacher": settings.model,
            "data": folders.scenes,
            "output_dir": folders.student,
            "device": settings.device,
            "seed": settings.seed,
        },
    )
    words = ["distill", asked.student, "--teacher", asked.teacher, "--data", asked.data]
    return Stage(
        "student",
        "Distilling the cut from the full model",
        folders.student,
        _command(*words, "--output-dir", asked.output_dir, "--config", recipe),
        partial(_distill_or_resume, asked),
    )


def _distill_or_resume(asked: DistillSettings, reporter: Reporter) -> object:
    folder = asked.output_dir
    resume = (folder / TRAINING / "settings.json").is_file()
    if not resume and folder.is_dir() and not (folder / CONFIG).exists():
        # Stopped between making the folder and describing the training: nothing is lost.
        shutil.rmtree(folder)
    return distill(replace(asked, resume=resume), reporter)


def _evaluate(
    settings: DemoSettings, folders: DemoFolders, who: str, model: str, label: str
) -> Stage:
    asked = EvaluateSettings(
        model=model,
        data=folders.scenes,
        output_dir=folders.scores(who),
        pools=("local",),
        device=settings.device,
        seed=settings.seed,
    )
    words = ["eval", model, "--data", asked.data, "--pools", "local"]
    return Stage(
        f"scores/{who}",
        label,
        folders.scores(who),
        _command(*words, "--output-dir", asked.output_dir),
        partial(evaluate, asked),
    )


def _embed(settings: DemoSettings, folders: DemoFolders) -> Stage:
    asked = EmbedSettings(
        model=str(folders.student),
        inputs=(str(folders.pool),),
        output_dir=folders.index,
        device=settings.device,
    )
    return Stage(
        "index",
        "Embedding the pictures, to be searched",
        folders.index,
        _command("embed", asked.model, *asked.inputs, "--output-dir", asked.output_dir),
        partial(embed, asked),
    )


def _command(*words: object) -> str:
    return shlex.join(["puma", *(str(word) for word in words)])
