"""Reading the JSON objects that a checkpoint is described by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from puma_cli.errors import CheckpointError


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file `path`.

    Raises:
        CheckpointError: it is missing, or no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"`{path}` is missing.", hint="Download or copy the checkpoint again."
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"`{path}` cannot be read as JSON.",
            cause=str(error),
            hint="Download or copy the checkpoint again.",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"`{path}` is not a JSON object.")
    return content
