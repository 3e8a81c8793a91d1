"""Code that a checkpoint brings along, which is not run unless a user says so."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.errors import CheckpointError
from puma_cli.models.importing.gme import is_gme


def remote_code(folder: Path) -> str:
    """Return the class of its own that a checkpoint needs to be opened, or an empty string."""
    for name in (layout.CONFIG, layout.LAYOUT.tokenizer_config, layout.PREPROCESSOR):
        if (folder / name).is_file():
            named = read_object(folder / name).get("auto_map")
            # GME's class is a stock one with functions around it.
            if named and not is_gme(folder):
                first = next(iter(named.values())) if isinstance(named, dict) else named
                return f"{first} ({name})"
    return ""


def refused_code(folder: Path, code: str) -> CheckpointError:
    """Return the error of a checkpoint that would have to run code of its own."""
    return CheckpointError(
        f"{folder} brings code of its own: {code}.",
        cause="puma runs no code of a checkpoint, which may do anything on this machine, and "
        "without it the vectors may be others.",
        hint="If you have read it and trust it: "
        "puma_cli.load(folder, trust_remote_code=True), and save() what it gives.",
    )
