"""What a training has come to, in one piece."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from puma_cli.checkpoint import layout
from puma_cli.config.settings import DistillSettings
from puma_cli.distillation.adapters import Adapter
from puma_cli.distillation.pair import Pair
from puma_cli.models.embedder import Embedder
from puma_cli.processes import Processes


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


def gather(pair: Pair, settings: DistillSettings, processes: Processes) -> Trained | None:
    """Return it in the process that writes; all processes must ask."""
    adapter = None
    if settings.lora.keep_adapter:
        adapter = pair.adapter(settings.student, wanted=processes.is_main)
    student = pair.gather(wanted=processes.is_main)
    return None if student is None else Trained(student, adapter)
