"""Where runs find what they need: data sets, models, cuts and analyses, each made once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablations.grid import NOBODY, Model, Run, Setup, overrides, read_recipe, recipe_path
from ablations.layers import layers_of, needs_profile
from ablations.processes import locked, run_puma
from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.changes import say_value
from puma_cli.config.loading import STAGES
from puma_cli.errors import ConfigError, PumaError
from puma_cli.profiling.profile import LayerProfile, read_profile
from puma_cli.pruning.planning.plan import depth_of

FRESH = "fresh"


class OutOfTimeError(PumaError):
    """A training was stopped with its state saved, as the time was up."""


@dataclass(frozen=True)
class Workplace:
    """A folder for everything that runs make.

    Args:
        device: what trains and scores.
        limit: returns the minutes that are left, or None without a limit.
        apart: train in processes of their own, so that their memory is theirs alone.
    """

    root: Path
    setup: Setup
    device: str = "auto"
    limit: Any = None
    apart: bool = True

    @property
    def log(self) -> Path:
        """What puma's commands have said."""
        return self.root / f"log-{os.getpid()}.txt"

    def data(self, name: str, make: bool = True) -> Path:
        """Return a data set's folder, drawn if it is not there.

        Raises:
            ConfigError: the environment does not say where it is.
        """
        found = self.setup.data[name]
        if found.variable:
            return _from_environment(found.variable, f"the data set {name}")
        folder = self.root / "data" / name
        if make:
            with self.once(folder) as missing:
                if missing:
                    sizes: list[Any] = [
                        word
                        for option, size in (found.scenes or {}).items()
                        for word in (f"--{option.replace('_', '-')}", str(size))
                    ]
                    run_puma(["data", "scenes", *sizes, "--output-dir", folder], self.log)
        return folder

    def model(self, name: str, make: bool = True) -> str:
        """Return what puma is told of a model, trained if it is not there.

        Raises:
            ConfigError: the environment does not say where it is.
            OutOfTimeError: its training will go on the next time.
        """
        model = self.setup.models[name]
        if model.variable and os.environ.get(model.variable):
            return str(_from_environment(model.variable, f"the model {name}"))
        if not model.start:
            if model.variable:
                _from_environment(model.variable, f"the model {name}")
            return name
        folder = self.root / "models" / name
        if make:
            with self.once(folder) as missing:
                if missing:
                    self._train_model(model, folder)
        return str(folder)

    def is_there(self, name: str) -> bool:
        """Tell whether a model need not be trained first."""
        try:
            found = self.model(name, make=False)
        except ConfigError:
            return False
        return not self.setup.models[name].start or read_provenance(Path(found)) is not None

    def _train_model(self, model: Model, folder: Path) -> None:
        start = FRESH if model.start == FRESH else self.model(model.start)
        words = ["--config", recipe_path(model.recipe)]
        for key, value in sorted(model.set.items()):
            words += ["--set", f"{key}={say_value(value)}"]
        self.distill([start, "--data", self.data(model.data), *words], folder)

    def distill(self, words: list[Any], folder: Path) -> dict[str, float]:
        """Train to the end of the training, or of the time; return seconds and peak memory.

        Raises:
            OutOfTimeError: the training will go on the next time.
        """
        command = ["distill", *words, "--output-dir", folder, "--device", self.device]
        command += _going_on(folder)
        if self.limit is not None and (left := self.limit()) is not None:
            command += ["--stop-after", f"{max(0.001, left):.3f}"]
        ended = run_puma(command, self.log, apart=self.apart)
        if read_provenance(folder) is None or (folder / "training").is_dir():
            raise OutOfTimeError(
                f"The training in {folder} was stopped, with its state saved.",
                hint="Type the same command again to go on.",
            )
        return {"seconds": ended.seconds, "memory": float(ended.memory)}

    def profile(self, model: str, data: str) -> LayerProfile:
        """Return the analysis of a model on a data set's val split, made if it is not there."""
        folder = self.root / "profiles" / f"{model}-{data}"
        with self.once(folder) as missing:
            if missing:
                words: list[Any] = [self.model(model), "--data", self.data(data)]
                words += ["--device", self.device]
                words = ["analyze", *words, "--output-dir", folder]
                run_puma(words, self.log)
        return read_profile(folder)

    def layers(self, run: Run) -> tuple[int, ...]:
        """Return the decoder layers that a run keeps."""
        depth = depth_of(resolve(self.model(run.model)))
        found = self.profile(run.model, run.data) if needs_profile(run.cut) else None
        return layers_of(run.cut, depth, found)

    def cut(self, run: Run, layers: tuple[int, ...]) -> str:
        """Return the cut of a run's model, made if it is not there; the model itself if whole."""
        model = self.model(run.model)
        if run.cut == "whole" and not run.bridge:
            return model
        name = ".".join(map(str, layers))
        folder = self.root / "cuts" / (f"{run.model}-{name}" + f"-{run.data}" * run.bridge)
        with self.once(folder) as missing:
            if missing:
                words: list[Any] = [model, "--layers", ",".join(map(str, layers))]
                if run.bridge:
                    words += ["--bridge", "--data", str(self.data(run.data))]
                run_puma(["prune", *words, "--output-dir", folder], self.log)
        return str(folder)

    def training(self, run: Run, cut: str, cache: Path | None) -> list[Any]:
        """Return what `puma distill` is told for a run, but for the output and the session.

        Args:
            cache: folder for the teacher's embeddings, or None to name none.
        """
        words: list[Any] = [cut]
        if run.teacher != NOBODY:
            words += ["--teacher", self.model(run.teacher)]
        words += ["--data", self.data(run.data), "--config", recipe_path(run.recipe)]
        words += ["--seed", str(run.seed)]
        for assignment in overrides(run):
            words += ["--set", assignment]
        staged = STAGES in read_recipe(run.recipe)
        if cache and run.setting("train.cache_teacher") and not staged:
            words += ["--set", f"train.cache_dir={cache}"]
        return words

    @property
    def teacher_cache(self) -> Path:
        """Where teachers' embeddings stay; several trainings may fill it at once."""
        return self.root / "teacher-cache"

    @contextmanager
    def once(self, folder: Path) -> Iterator[bool]:
        """Hold the lock of a folder; give whether it has yet to be made."""
        name = f"{folder.parent.name}-{folder.name}"
        with locked(self.root / "locks" / name):
            yield read_provenance(folder) is None or (folder / "training").is_dir()


def limited(workplace: Workplace, minutes: float) -> Workplace:
    """Return the same place for a session that has so many minutes."""
    import time

    end = time.monotonic() + 60 * minutes
    return replace(workplace, limit=lambda: (end - time.monotonic()) / 60)


def _going_on(folder: Path) -> list[str]:
    """Return what a training is told of what an earlier session has left."""
    if any(
        (folder / name).is_file() for name in (LAYOUT.training_settings, LAYOUT.training_stages)
    ):
        return ["--resume"]
    # Killed before it had noted its settings: there is nothing to go on from.
    return ["--overwrite"] if folder.exists() and read_provenance(folder) is None else []


def _from_environment(variable: str, what: str) -> Path:
    folder = os.environ.get(variable, "")
    if not folder or not Path(folder).is_dir():
        raise ConfigError(
            f"{variable} is {folder or 'not set'}, which is no folder.",
            cause=f"It says where {what} is.",
            hint=f"export {variable}=FOLDER",
        )
    return Path(folder)
