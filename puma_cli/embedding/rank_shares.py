"""How the processes that fill one index tell the first that they are done.

By files, since a collective would fail where one process is minutes ahead of the others.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from puma_cli.checkpoint.output_folder import write_json

_PAUSE = 0.1
_NAME = ".share-{}.json"


def forget_shares(folder: Path) -> None:
    """Remove what processes of an earlier run have said."""
    for path in folder.glob(_NAME.format("*")):
        path.unlink(missing_ok=True)


def hand_in(folder: Path, place: int, embedded: int) -> None:
    """Say that a process's shards are there.

    Args:
        place: which process (>= 1).
        embedded: vectors that it has computed.
    """
    write_json(folder / _NAME.format(place), embedded)


def others_embedded(folder: Path, count: int) -> int:
    """Wait for all other processes; return how many vectors they have computed.

    One that failed is the launcher's to notice, which ends the waiting.
    """
    total = 0
    for place in range(1, count):
        path = folder / _NAME.format(place)
        while not path.is_file():
            time.sleep(_PAUSE)
        total += int(json.loads(path.read_text(encoding="utf-8")))
        path.unlink()
    return total
