"""The zoo on disk, each checkpoint made when it is first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.zoo.writing import write_checkpoint


@dataclass(frozen=True)
class Zoo:
    """Checkpoints under `root`; not to be written to."""

    root: Path

    def folder(self, name: str, **options: Any) -> Path:
        """Return the folder of the model `name`, written with the options of `write_checkpoint`."""
        said = "-".join(f"{key}={value}" for key, value in sorted(options.items()))
        folder = self.root / f"{name}-{said or 'plain'}"
        if not folder.exists():
            write_checkpoint(name, folder, **options)
        return folder
