"""The output folder of several trainings in a row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.checkpoint.output_folder import explained_writes, write_json
from puma_cli.checkpoint.provenance import read_provenance, to_plain
from puma_cli.config.changes import flattened
from puma_cli.config.stages import TrainingStage, fold
from puma_cli.config.training_settings import DistillSettings
from puma_cli.distillation.output import FREE_SETTINGS, TrainingFolder
from puma_cli.distillation.state import Progress
from puma_cli.errors import ConfigError, OutputError

# Settings of the session at hand, which a resume is given anew.
_SESSION = ("output_dir", "resume", "overwrite", "stop_after")
# What an earlier stage's puma.json has to say in those of the later ones.
_TOLD = ("settings", "parents", "kept_layers", "created", "versions", "results")


class StagedFolder:
    """The folders of trainings in a row, and the order in which they come to be.

    `root/stages/NAME/` is the output folder of each stage but the last, whose own is `root`.
    `root/training/stages.json` is there until the last stage is at its end; it holds the settings
    of all, as a recipe.

    Args:
        stages: with the settings as the user gave them.
    """

    def __init__(self, stages: Sequence[TrainingStage]) -> None:
        self._stages = tuple(stages)
        self._asked = stages[0].settings
        self.root = self._asked.output_dir
        self._whole = TrainingFolder(self.root)
        self._plan = self.root / LAYOUT.training_stages
        self._opened = False
        self.parts = [StageFolder(self, number) for number in range(len(stages))]

    @property
    def names(self) -> list[str]:
        """The names of the stages, in order."""
        return [stage.name for stage in self._stages]

    def place(self, number: int) -> Path:
        """Return where the stage of a number (0 to count - 1) writes its student."""
        last = number == len(self._stages) - 1
        return self.root if last else self.root / layout.STAGES / self.names[number]

    def settings(self, number: int) -> DistillSettings:
        """Return a stage's settings, with the student that it starts from and its own folder."""
        given = self._stages[number].settings
        student = str(self.place(number - 1)) if number else given.student
        return replace(given, student=student, output_dir=self.place(number))

    def finished(self) -> list[Progress | None]:
        """Return how far each stage had come that is at its end; nothing is written.

        Raises:
            OutputError: there is nothing to resume.
            ConfigError: the stages differ from those of the training to resume.
        """
        if not self._asked.resume:
            return [None for _ in self._stages]
        before = self._names_before()
        if before != self.names:
            raise ConfigError(
                f"The training in {self.root} was started "
                + (f"with the stages {', '.join(before)}" if before else "without stages")
                + f", not with {', '.join(self.names)}.",
                hint="Resume with the same recipe, or start anew with --overwrite.",
            )
        return [part.finished(self.settings(number)) for number, part in enumerate(self.parts)]

    def open(self) -> None:
        """Make the folder, or note the settings that it is resumed with.

        Raises:
            OutputError: the folder is taken.
        """
        if self._opened:
            return
        if not self._asked.resume:
            given = [stage.settings for stage in self._stages]
            inputs = [self._asked.student, *(each.teacher for each in given)]
            self._whole.make(self._asked.overwrite, [*inputs, *(each.data for each in given)])
        plain = {stage.name: to_plain(stage.settings) for stage in self._stages}
        for values in plain.values():
            for name in _SESSION:
                del values[name]
        write_json(self._plan, fold(plain))
        self._opened = True

    def withdraw(self) -> None:
        """Make the folder what it was, if no stage could begin."""
        self._whole.withdraw()

    def begin(self) -> None:
        """Let go of the result that these trainings replace."""
        self._whole.begin()

    def earlier(self, number: int) -> list[dict[str, Any]]:
        """Return what is known of the stages before the one of a number."""
        found = []
        for place, name in enumerate(self.names[:number]):
            provenance = to_plain(read_provenance(self.place(place))) or {}
            found.append({"name": name, **{key: provenance.get(key) for key in _TOLD}})
        return found

    def clear_state(self) -> None:
        """Let go of all that the last stage has left, so that it can begin anew."""
        for item in (self.root / layout.TRAINING).iterdir():
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            elif item.name != self._plan.name:
                item.unlink()

    def _names_before(self) -> list[str]:
        """Return the stages of the training to resume; empty for one without stages."""
        if self._plan.is_file():
            content = json.loads(self._plan.read_text(encoding="utf-8"))
            return [stage["name"] for stage in content[layout.STAGES]]
        done = self._whole.done()
        if done is None and not self._whole.is_under_way:
            raise OutputError(
                f"{self.root} holds no training to resume.",
                hint="Check --output-dir, or leave out --resume to start a training.",
            )
        if done is None or done.stage is None:
            return []
        return [*(stage["name"] for stage in done.earlier_stages), done.stage]


class StageFolder(TrainingFolder):
    """The output folder of one training among several in a row.

    Whether it goes on or starts follows from what is there, not from `settings.resume`.

    Args:
        number: its place (0 to count - 1).
    """

    def __init__(self, run: StagedFolder, number: int) -> None:
        super().__init__(run.place(number))
        self._run, self._number = run, number
        self.stage = run.names[number]
        # A later stage's student is the one before, wherever the whole folder may have moved.
        self.free = (*FREE_SETTINGS, "student") if number else FREE_SETTINGS

    def finished(self, settings: DistillSettings) -> Progress | None:
        """Return the final progress of a stage that is at its end, or None.

        Raises:
            ConfigError: it was trained with other settings.
        """
        done = self.done()
        if done is None:
            return None
        self._compare(flattened(done.settings), settings)
        return Progress(**done.results["progress"])

    def open(self, settings: DistillSettings) -> None:
        """Make the folder ready for a start, or to go on.

        Raises:
            OutputError: the folder is taken.
            ConfigError: the settings differ from those that this stage has begun with.
        """
        self._run.open()
        if self.is_under_way:
            self._check_same(settings)
            return
        if not self._is_last:
            # What a kill may have left of a stage that had not begun.
            shutil.rmtree(self._place, ignore_errors=True)
        with explained_writes(self.root):
            self.state.mkdir(parents=True, exist_ok=True)
        self._made = True
        self._write_settings(settings)

    def withdraw(self) -> None:
        """Make the folder what it was before `open`, after a training that could not begin."""
        if self._made and self._is_last:
            self._run.clear_state()
        elif self._made:
            shutil.rmtree(self._place, ignore_errors=True)
        self._run.withdraw()

    def begin(self) -> None:
        """Let go of the result that these trainings replace."""
        super().begin()
        self._run.begin()

    def earlier(self) -> list[dict[str, Any]]:
        """Return what is known of the stages before this one."""
        return self._run.earlier(self._number)

    @property
    def _is_last(self) -> bool:
        return self._number == len(self._run.names) - 1
