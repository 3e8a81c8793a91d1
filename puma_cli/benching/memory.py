"""The most memory that a model takes at work."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from puma_cli.benching.peak_process import as_plain
from puma_cli.errors import DeviceError
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input


def weight_bytes(embedder: Embedder) -> int:
    """Return the bytes of an open model's weights, the head's too."""
    parts = [embedder.model, *([] if embedder.head is None else [embedder.head])]
    return sum(w.numel() * w.element_size() for part in parts for w in part.parameters())


def peak_in_process(
    model: Path,
    inputs: Sequence[Input],
    *,
    dtype: str,
    attention: str,
    batch_size: int,
    batch_tokens: int | None,
) -> int | None:
    """Return by how many bytes a process on the CPU grows that opens a model and embeds `inputs`.

    In one process several models could not be told apart.

    Returns:
        bytes besides Python and its libraries, or None where the system does not say.

    Raises:
        DeviceError: the process failed, as for lack of memory.
    """
    request = {
        "model": str(model.resolve()),
        "dtype": dtype,
        "attention": attention,
        "batch_size": batch_size,
        "batch_tokens": batch_tokens,
        "inputs": [as_plain(entry) for entry in inputs],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(request, file)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "puma_cli.benching.peak_process", file.name],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise DeviceError(
            f"The memory of {model} cannot be measured.",
            cause=said[-1] if said else f"Its process ended with {done.returncode}.",
            hint="Leave it out with --no-memory.",
        )
    return int(done.stdout) if done.stdout.strip() else None
