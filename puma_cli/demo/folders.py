"""Where the stages of a demo lie, and what its puma.json remembers between two calls."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.fingerprint import fingerprint
from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.checkpoint.output_folder import check_free, explained_writes
from puma_cli.checkpoint.provenance import Parent, describe, read_provenance, write_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.settings import DemoSettings
from puma_cli.data.scenes.pools import DATASET
from puma_cli.errors import OutputError

COMMAND = "demo"
# Settings that may differ between two calls of one demo.
_FREE = ("output_dir", "device", "overwrite")


@dataclass(frozen=True)
class DemoFolders:
    """The folders of one demo; each stage's name is its folder's."""

    root: Path

    @property
    def scenes(self) -> Path:
        """The data set."""
        return self.root / "scenes"

    @property
    def profile(self) -> Path:
        """The analysis of the full model."""
        return self.root / "profile"

    @property
    def cut(self) -> Path:
        """The pruned, untrained model."""
        return self.root / "pruned"

    @property
    def student(self) -> Path:
        """The trained model."""
        return self.root / "student"

    @property
    def page(self) -> Path:
        """The report."""
        return self.root / LAYOUT.demo_page

    @property
    def index(self) -> Path:
        """The candidates' vectors by the trained model."""
        return self.root / "index"

    @property
    def pool(self) -> Path:
        """The candidates that are embedded: pictures of scenes."""
        return self.scenes / LAYOUT.pools / "local" / f"mbeir_{DATASET}_task0_cand_pool.jsonl"

    def scores(self, who: str) -> Path:
        """The scores of `teacher`, `cut` or `student`."""
        return self.root / "scores" / who


def open_demo(settings: DemoSettings) -> dict[str, float]:
    """Make the demo's folder, or take up the one that is there; return seconds by finished stage.

    Raises:
        OutputError: the folder holds something else, or a demo with other settings or model.
    """
    root = settings.output_dir
    # First of all, since a model that is not there must leave no folder behind.
    now = describe(COMMAND, settings, _parents(settings))
    known = read_provenance(root) if root.is_dir() else None
    if known is None or known.command != COMMAND:
        # Whatever else lies there stays, also under --overwrite.
        check_free(root)
        known = None
    elif settings.overwrite:
        with explained_writes(root):
            shutil.rmtree(root)
        known = None
    if known is None:
        with explained_writes(root):
            root.mkdir(parents=True, exist_ok=True)
        record(settings, {}, finished=False)
        return {}
    changed = [
        f"{name} {known.settings.get(name)!r}, not {value!r}"
        for name, value in now.settings.items()
        if name not in _FREE and known.settings.get(name) != value
    ]
    if known.parents != now.parents:
        changed.append(f"another {settings.model}")
    if changed:
        raise OutputError(
            f"The demo in `{root}` was started with {changed[0]}.",
            cause="Stages made with different settings would not belong together.",
            hint="Choose another --output-dir, or start it anew with --overwrite.",
        )
    return dict(known.results.get("seconds", {}))


def record(
    settings: DemoSettings,
    seconds: Mapping[str, float],
    *,
    finished: bool,
    results: Mapping[str, Any] | None = None,
) -> None:
    """Write the demo's puma.json: its settings, the time of each stage, and results if any."""
    settings = replace(settings, overwrite=False)
    content = {"finished": finished, "seconds": dict(seconds), **(results or {})}
    provenance = describe(COMMAND, settings, _parents(settings), results=content)
    write_provenance(settings.output_dir, provenance)


def _parents(settings: DemoSettings) -> tuple[Parent, ...]:
    return (Parent("model", settings.model, fingerprint(resolve(settings.model))),)
