"""A process of its own that opens a model, embeds some inputs and says how it grew.

    python -m puma_cli.benching.peak_process REQUEST

REQUEST is a JSON file with `model`, `dtype`, `attention`, `batch_size`, `batch_tokens` and
`inputs`; on standard output stands the growth in bytes, or nothing where the system does not say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.source import PUMA_MINI
from puma_cli.models.inputs import Input


def as_plain(entry: Input) -> dict[str, Any]:
    """Return an input as a request has it."""
    return {
        "text": entry.text,
        "image": None if entry.image is None else str(entry.image.resolve()),
        "instruction": entry.instruction,
    }


def from_plain(entry: dict[str, Any]) -> Input:
    """Return the input that a request describes."""
    image = entry["image"]
    return Input(entry["text"], None if image is None else Path(image), entry["instruction"])


def grown(request: dict[str, Any]) -> int | None:
    """Return by how many bytes this process grows at the request's work, or None."""
    import torch

    from puma_cli.distillation.forecast.peak import PeakMemory
    from puma_cli.models.opening import load

    inputs = [from_plain(entry) for entry in request["inputs"]]
    # What a first use of the libraries brings in belongs to no model.
    load(PUMA_MINI, "cpu").encode(inputs[:1] + [e for e in inputs if e.image is not None][:1])
    peak = PeakMemory(torch.device("cpu"))
    embedder = load(request["model"], "cpu", request["dtype"], attention=request["attention"])
    embedder.encode(inputs, request["batch_size"], tokens=request["batch_tokens"])
    return peak.read()


if __name__ == "__main__":
    found = grown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    sys.stdout.write("" if found is None else str(found))
