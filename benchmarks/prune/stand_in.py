"""What a stand-in is: a config and the shapes of its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stand_in_files import Shapes, write_checkpoint


@dataclass(frozen=True)
class StandIn:
    """One checkpoint to write.

    Args:
        config: its raw config.json.
        shards: names and shapes of each file's tensors.
        dtype: of all tensors, as safetensors spells it.
        sparse: holes instead of random numbers.
    """

    config: dict[str, Any]
    shards: list[Shapes]
    dtype: str
    sparse: bool

    def write(self, folder: Path) -> None:
        """Write it to the new folder."""
        write_checkpoint(folder, self.config, self.shards, self.dtype, sparse=self.sparse)
