"""The output folder of a training: its state while it runs, a checkpoint when it is done."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.output_folder import (
    check_free,
    explained_writes,
    open_permissions,
    write_json,
)
from puma_cli.checkpoint.provenance import (
    Parent,
    Provenance,
    describe,
    read_provenance,
    to_plain,
    write_provenance,
)
from puma_cli.config.changes import flattened
from puma_cli.config.training_settings import DistillSettings
from puma_cli.distillation.adapters import Adapter
from puma_cli.distillation.card import write_student_card
from puma_cli.distillation.log import read_log
from puma_cli.distillation.state import Progress
from puma_cli.errors import ConfigError, OutputError
from puma_cli.models.embedder import Embedder
from puma_cli.report.training_history import TrainingHistory

FREE_SETTINGS = (
    "resume",
    "overwrite",
    "stop_after",
    "device",
    "output_dir",
    "full_hash",
    "dry_run",
    # They divide the work and leave the sum: a training that ran out of memory goes on with less.
    "batch.chunk_tokens",
    "batch.chunk_pixels",
    "train.checkpoint_activations",
    "train.cache_dir",
    "train.verify_cache",
    "train.save_every",
    "train.save_minutes",
    "train.keep_states",
    "train.strategy",
    "train.validate_teacher",
    "train.trackers",
)


@dataclass(frozen=True)
class Trained:
    """What a training has come to.

    Args:
        student: with merged weights.
        adapter: what was merged, where it is to be kept.
    """

    student: Embedder
    adapter: Adapter | None = None

    def save(self, folder: Path, dtype: str) -> None:
        """Write the checkpoint, and the adapter into a folder of its own below."""
        self.student.save(folder, dtype)
        if self.adapter is not None:
            self.adapter.save(folder / layout.ADAPTER)


class TrainingFolder:
    """The paths of one training and the order in which they change.

    `root/training/` holds state, initial and best weights; at the end the best move to `root`, the
    latest to `root/last`, and `training/` goes. `root/config.json` appears last of all, so an
    unfinished root is never taken for a checkpoint.
    """

    # Settings that may differ between the sessions of one training.
    free: Sequence[str] = FREE_SETTINGS
    # The name of this training among several in a row.
    stage: str | None = None

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / layout.TRAINING
        self.initial = self.state / "initial"
        self.log = root / "log.jsonl"
        self._settings = self.state / "settings.json"
        self._made = False
        # A linked folder stays linked: what is moved is what the link leads to.
        self._place = root.resolve()
        self._old = self._place.with_name(f".{self._place.name}.old-{secrets.token_hex(4)}")

    def open(self, settings: DistillSettings) -> Progress | None:
        """Make the folder ready; return the final progress if the training is finished already.

        Raises:
            OutputError: the folder is taken, or there is nothing to resume.
            ConfigError: the settings differ from those of the training to resume.
        """
        if settings.resume:
            if self.is_under_way:
                self._check_same(settings)
                return None
            done = self.done()
            if done is not None:
                self._compare(flattened(done.settings), settings)
                return Progress(**done.results["progress"])
            raise OutputError(
                f"{self.root} holds no training to resume.",
                hint="Check --output-dir, or leave out --resume to start a training.",
            )
        self.make(settings.overwrite, (settings.student, settings.teacher, settings.data))
        self._write_settings(settings)
        return None

    @property
    def is_under_way(self) -> bool:
        """Whether a training has begun here that is not at its end."""
        return self._settings.is_file()

    def done(self) -> Provenance | None:
        """Return where the result came from, if the training is at its end."""
        if self.is_under_way or not self.root.is_dir():
            return None
        done = read_provenance(self.root)
        return done if done is not None and done.command == "distill" else None

    def make(self, overwrite: bool, inputs: Iterable[str | Path]) -> None:
        """Make the folder, and set aside what it replaces.

        Raises:
            OutputError: the folder is taken, or holds one of the inputs.
        """
        if not overwrite and any(
            (self.root / name).is_file()
            for name in (layout.LAYOUT.training_settings, layout.LAYOUT.training_stages)
        ):
            raise OutputError(
                f"{self.root} holds a training that is not at its end.",
                hint="Go on with it by --resume, choose another --output-dir, or start anew with "
                "--overwrite.",
            )
        check_free(self.root, overwrite, inputs)
        with explained_writes(self.root):
            if self._place.exists():
                self._place.rename(self._old)
            self._made = True
            (self._place / layout.TRAINING).mkdir(parents=True)

    def withdraw(self) -> None:
        """Make the folder what it was before `open`, after a training that could not begin."""
        if self._made:
            shutil.rmtree(self._place, ignore_errors=True)
            if self._old.exists():
                self._old.rename(self._place)

    def begin(self) -> None:
        """Let go of the result that this training replaces."""
        self._made = False
        shutil.rmtree(self._old, ignore_errors=True)

    def keep_initial(self, embedder: Embedder) -> None:
        """Save the untrained model."""
        _replace(self.initial, lambda draft: embedder.save(draft))

    def best(self, step: int) -> Path:
        """Return where the weights of a step lie that were the best when it was done."""
        return self.state / f"best-{step:08d}"

    def keep_best(self, trained: Trained, step: int, dtype: str) -> None:
        """Save the student's weights as the best; those that a state knows stay beside them."""
        _replace(self.best(step), lambda draft: trained.save(draft, dtype))

    def drop_worse(self, step: int) -> None:
        """Let go of all best weights but those of `step`."""
        for folder in self.state.glob("best-*"):
            if folder != self.best(step):
                shutil.rmtree(folder, ignore_errors=True)

    def finish(
        self,
        settings: DistillSettings,
        trained: Trained,
        kept: Sequence[int] | None,
        device: str,
        progress: Progress,
        parents: Sequence[Parent],
    ) -> None:
        """Turn the folder into a checkpoint: the best at its root, the latest in `last/`.

        Args:
            trained: the latest weights.
            kept: the teacher's layers that it was cut from.
            device: the name of what it was trained on.
        """
        best = self.best(progress.best_step)
        last = self.root / "last"
        _replace(last, lambda draft: trained.save(draft, settings.train.save_dtype))
        provenance = describe(
            "distill",
            settings,
            parents,
            kept_layers=None if kept is None else list(kept),
            results={
                "progress": asdict(progress),
                "validation_hit@1": progress.best_score if progress.best_score >= 0 else None,
                "device": device,
            },
        )
        provenance = replace(provenance, stage=self.stage, earlier_stages=self.earlier())
        plain = flattened(provenance.settings)
        history = TrainingHistory(self._place.name, read_log(self.log), plain, provenance)
        steps = {last: progress.step}
        # An earlier end may have been cut off while the best moved; its card moves first.
        if not (self.root / layout.CARD).exists():
            steps[best] = progress.best_step
        for folder, step in steps.items():
            write_provenance(folder, provenance)
            write_student_card(folder, settings, provenance, history, step)
        names = sorted(path.name for path in best.iterdir())
        # config.json makes a folder a checkpoint, so it comes last.
        for name in sorted(names, key=lambda name: (name == layout.CONFIG, name != layout.CARD)):
            (best / name).replace(self.root / name)
        # Away under its own name at once: half a training folder would look like one to resume.
        gone = self.root / f".{self.state.name}.done"
        self.state.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def earlier(self) -> list[dict[str, Any]]:
        """Return what is known of trainings in a row that came before this one."""
        return []

    def _write_settings(self, settings: DistillSettings) -> None:
        plain = flattened(to_plain(settings))
        kept = {key: value for key, value in plain.items() if key not in FREE_SETTINGS}
        write_json(self._settings, kept)

    def _check_same(self, settings: DistillSettings) -> None:
        saved: dict[str, Any] = json.loads(self._settings.read_text(encoding="utf-8"))
        self._compare(saved, settings)

    def _compare(self, saved: Mapping[str, Any], settings: DistillSettings) -> None:
        plain = flattened(to_plain(settings))
        before, now = (
            {key: value for key, value in each.items() if key not in self.free}
            for each in (saved, plain)
        )
        changed = sorted(
            key for key in before.keys() | now.keys() if before.get(key) != now.get(key)
        )
        if changed:
            key = changed[0]
            raise ConfigError(
                f"The training in {self.root} was started with {key} {before.get(key)!r}, "
                f"not {now.get(key)!r}.",
                cause="A resumed training goes on with the settings it was started with.",
                hint="Resume with the same settings, or start anew with --overwrite.",
            )


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder beside `folder` and put it in place of the old one."""
    draft = folder.with_name(f".{folder.name}.partial")
    old = folder.with_name(f".{folder.name}.old")
    for stale in (draft, old):
        shutil.rmtree(stale, ignore_errors=True)
    with explained_writes(folder):
        draft.mkdir(parents=True)
        write(draft)
        open_permissions(draft)
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
