"""MMEB's evaluation data on the hub."""

from __future__ import annotations

import re
from pathlib import Path

from puma_cli.checkpoint.hub import snapshot
from puma_cli.errors import CheckpointError, DataError
from puma_cli.progress import SILENT, Reporter

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+(@[\w.\-/]+)?")
_IMAGES = ("images.zip",)


def is_hub_id(name: str) -> bool:
    """Tell whether a name is `org/name[@revision]`, and no folder here."""
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def fetch(name: str, tasks: str = "*", images: bool = True, reporter: Reporter = SILENT) -> Path:
    """Return the snapshot of a data set on the hub, with the tables of some of its data sets.

    Args:
        name: `org/name[@revision]`, such as `TIGER-Lab/MMEB-eval`.
        tasks: comma-separated globs over names of data sets.
        images: whether the archive of the images is fetched too.

    Raises:
        DataError: there is no such data set, or the hub cannot be asked.
    """
    patterns = [f"{glob.strip()}/test*" for glob in tasks.split(",")]
    reporter.note(f"Fetching `{name}` from the hub, unless it is cached.")
    try:
        return snapshot(name, [*patterns, *(_IMAGES if images else ())], reporter, kind="dataset")
    except CheckpointError as error:
        raise DataError(error.problem, cause=error.cause, hint=error.hint) from error
